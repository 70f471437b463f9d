"""The sampler draws every source by its share, and a resumed run draws the same frames."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smoke_runs import smoke

from training.data.batch import collate
from training.data.sample import Sample
from training.data.sampling import EpochSampler, draw_epoch
from training.run.frames import RunFrames


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    samples=st.integers(1, 60),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_sources_give_their_share_and_their_frames_come_equally_often(sizes, samples, seed, data) -> None:
    shares = data.draw(st.lists(st.floats(0.1, 10), min_size=len(sizes), max_size=len(sizes)))
    seen: Counter[tuple[int, int]] = Counter()
    for epoch in range(4):
        draws = draw_epoch(sizes, shares, samples, seed, epoch)
        assert [draw.position for draw in draws] == list(range(samples))
        for source, share in enumerate(shares):
            count = sum(draw.source == source for draw in draws)
            assert abs(count - samples * share / sum(shares)) <= 1
        seen.update((draw.source, draw.index) for draw in draws)
    for source, size in enumerate(sizes):
        counts = [seen[source, index] for index in range(size)]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("share", "said"), [(0.01, True), (0.2, False), (0.0, False)])
def test_a_source_of_which_no_frame_is_drawn_is_told(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float, said: bool
) -> None:
    recipe = smoke(rendered_samples, tmp_path, "data.samples_per_epoch=12")
    (first,) = recipe.data.train
    RunFrames(recipe.replace(data=recipe.data.replace(train=(first, first.replace(share=share)))))
    expected = f"{rendered_samples}: no frame of it is drawn, for share {share:g} is less than a sample of the 12"
    assert (expected in capsys.readouterr().out) == said


def test_an_epoch_depends_only_on_seed_and_number() -> None:
    first = draw_epoch([10, 7], [1, 1], 12, seed=3, epoch=5)
    assert first == draw_epoch([10, 7], [1, 1], 12, seed=3, epoch=5)
    assert first != draw_epoch([10, 7], [1, 1], 12, seed=4, epoch=5)
    assert first != draw_epoch([10, 7], [1, 1], 12, seed=3, epoch=6)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_an_epoch_without_overlap(world_size: int) -> None:
    parts = []
    for rank in range(world_size):
        sampler = EpochSampler([20], [1.0], 20, seed=1, rank=rank, world_size=world_size)
        sampler.set_epoch(2)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler) == 20 // world_size
    positions = [draw.position for part in parts for draw in part]
    assert len(set(positions)) == len(positions)


def make(height: int, boxes: int) -> Sample:
    return Sample(
        "s",
        np.zeros((height, 8, 3), np.uint8),
        np.zeros((height, 8), np.uint8),
        np.zeros((boxes, 4), np.float32),
        np.zeros(boxes, np.int64),
        box_weight=0.5,
    )


def test_a_batch_has_the_content_of_its_samples() -> None:
    batch = collate([make(6, 0), make(6, 3)])
    assert batch.images.shape == (2, 3, 6, 8)
    assert batch.masks.shape == (2, 6, 8)
    assert [tuple(boxes.shape) for boxes in batch.boxes_xyxy] == [(0, 4), (3, 4)]
    assert batch.box_weight.tolist() == [0.5, 0.5]
    assert len(batch.to("cpu")) == 2


def test_frames_of_different_sizes_cannot_form_a_batch() -> None:
    with pytest.raises(ValueError, match="one size"):
        collate([make(6, 0), make(8, 0)])


def test_the_images_of_a_batch_are_planes_in_memory() -> None:
    """Torch's backward pass has crashed on CPUs for three channels that lie side by side."""
    images = collate([make(6, 0), make(6, 3)]).images
    assert images.is_contiguous()
