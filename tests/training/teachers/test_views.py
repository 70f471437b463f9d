"""Views of an image: tiles cover it, and what is seen in them comes back to its place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_teachers import PixelTeacher, WhiteBoxTeacher
from torch import Tensor

from training.errors import RecipeError
from training.label_sets.label_set import BoxClass, LabelClass, LabelSet
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.seen import Seen
from training.teachers.settings import FusionSettings, TeacherSettings, ViewSettings
from training.teachers.views import look, resampled, views_of

THREE = LabelSet(name="three", segmentation=tuple(LabelClass(id=n, name=f"class {n}") for n in range(3)))
ONE_BOX = LabelSet(name="one", detection=(BoxClass(id=7, name="thing"),))
TILES = {"rows": 2, "columns": 3}


def settings(images_at_once: int = 8, **views: Any) -> TeacherSettings:
    return CheckpointTeacher.checked(
        {"kind": "checkpoint", "path": "x", "views": views, "images_at_once": images_at_once}
    )


def smooth_images(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, height // 8, width // 8, generator=generator) * 255
    return coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3).to(torch.uint8)


@given(
    st.integers(33, 700),
    st.integers(33, 700),
    st.integers(1, 6),
    st.integers(1, 6),
    st.floats(0, 0.9),
)
def test_tiles_cover_every_pixel_and_begin_at_a_cell(
    height: int, width: int, rows: int, columns: int, overlap: float
) -> None:
    views = views_of(
        ViewSettings(rows=rows, columns=columns, overlap=overlap, whole=rows * columns == 1), height, width
    )
    seen = torch.zeros(height, width, dtype=torch.int32)
    for view in views:
        assert view.x0 % 4 == view.y0 % 4 == 0
        assert 0 <= view.x0 < view.x1 <= width
        assert 0 <= view.y0 < view.y1 <= height
        seen[view.y0 : view.y1, view.x0 : view.x1] += 1
    assert int(seen.min()) >= 1
    assert len(views) == rows * columns


@pytest.mark.parametrize(
    "views",
    [{}, {"mirrored": True}, {**TILES}, {**TILES, "whole": False, "overlap": 0.5}, {**TILES, "mirrored": True}],
)
def test_probabilities_come_back_to_their_place(views: dict[str, Any]) -> None:
    images = smooth_images(64, 96)
    expected = resampled(PixelTeacher(THREE)(images).probabilities, 16, 24)

    found = look(PixelTeacher(THREE), images, settings(**views), FusionSettings()).probabilities

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_an_image_whose_sides_are_no_whole_cells_has_a_cell_for_every_pixel() -> None:
    images = smooth_images(64, 96)[:, :, :61, :90]
    found = look(PixelTeacher(THREE), images, settings(**TILES, scales=[1.0, 0.5, 2.0]), FusionSettings())
    assert found.probabilities is not None
    assert tuple(found.probabilities.shape) == (2, 3, 16, 23)
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(2, 16, 23))


@pytest.mark.parametrize(
    "views", [{}, {"mirrored": True}, {**TILES}, {**TILES, "mirrored": True, "scales": [1.0, 2.0]}]
)
def test_an_object_across_tiles_is_one_whole_box(views: dict[str, Any]) -> None:
    images = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    images[:, :, 20:50, 10:80] = 255

    (boxes,) = look(WhiteBoxTeacher(ONE_BOX), images, settings(**views), FusionSettings()).boxes or []

    torch.testing.assert_close(boxes.xyxy, torch.tensor([[10.0, 20.0, 80.0, 50.0]]), atol=0.6, rtol=0)
    assert boxes.ids.tolist() == [7]
    assert boxes.cut.tolist() == [False]


def test_an_object_larger_than_all_tiles_stays_marked_as_cut() -> None:
    images = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    images[:, :, 20:50, 10:80] = 255
    (boxes,) = look(WhiteBoxTeacher(ONE_BOX), images, settings(**TILES, whole=False), FusionSettings()).boxes or []
    assert len(boxes) >= 2
    assert bool(boxes.cut.all())


def test_a_small_object_within_the_overlap_of_tiles_is_one_box() -> None:
    images = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    images[:, :, 10:16, 34:40] = 255
    (boxes,) = look(WhiteBoxTeacher(ONE_BOX), images, settings(columns=3, overlap=0.5), FusionSettings()).boxes or []
    assert boxes.xyxy.tolist() == [[34, 10, 40, 16]]


@given(
    st.integers(33, 2000),
    st.integers(33, 2000),
    st.lists(st.floats(0.05, 2), min_size=1, max_size=3),
    st.integers(1, 3),
)
def test_sizes_in_megapixels_are_those_of_the_views(
    height: int, width: int, megapixels: list[float], columns: int
) -> None:
    views = views_of(ViewSettings(megapixels=tuple(megapixels), columns=columns), height, width)
    assert len(views) == len(megapixels) * (1 if columns == 1 else columns + 1)
    for number, view in enumerate(views):
        seen_height, seen_width = (view.y1 - view.y0) * view.scale, (view.x1 - view.x0) * view.scale
        assert seen_height * seen_width == pytest.approx(megapixels[number % len(megapixels)] * 1e6)


def test_a_small_and_a_large_frame_are_seen_at_the_same_size() -> None:
    sizes = []

    class Measured(PixelTeacher):
        def __call__(self, images: Tensor) -> Seen:
            sizes.append(tuple(images.shape[-2:]))
            return super().__call__(images)

    for height, width in ((120, 160), (480, 640)):
        images = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        found = look(Measured(THREE), images, settings(megapixels=[0.0768, 0.3072]), FusionSettings()).probabilities
        assert found is not None
        assert tuple(found.shape[-2:]) == (height // 4, width // 4)
    assert sizes == [(240, 320), (480, 640)] * 2


def test_sizes_are_scales_or_megapixels_and_not_both() -> None:
    with pytest.raises(RecipeError, match="name scales or megapixels, not both"):
        settings(megapixels=[0.3], scales=[1.0, 1.4])


def test_images_are_looked_at_in_groups() -> None:
    counts = []

    class Counting(PixelTeacher):
        def __call__(self, images: Tensor) -> Seen:
            counts.append(len(images))
            return super().__call__(images)

    images = smooth_images(64, 96).repeat(3, 1, 1, 1)[:5]
    grouped = look(Counting(THREE), images, settings(2), FusionSettings())
    assert counts == [2, 2, 1]
    assert torch.equal(
        grouped.probabilities, look(PixelTeacher(THREE), images, settings(), FusionSettings()).probabilities
    )


def test_a_teacher_without_room_in_memory_is_refused_in_one_sentence() -> None:
    class Huge(PixelTeacher):
        def __call__(self, images: Tensor) -> Seen:
            return Seen(torch.empty(1 << 60), None)

    with pytest.raises(RecipeError, match=r"teachers.1: expected the teacher to fit into the memory .* images_at_once"):
        look(Huge(THREE), smooth_images(64, 96), settings(), FusionSettings(), "teachers.1")
