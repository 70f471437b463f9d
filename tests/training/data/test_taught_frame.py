"""Test that what teachers said about a frame moves with its pixels."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_sets import CAMVID
from numpy.typing import NDArray

from training.config.sections import AugmentationRecipe
from training.data.augmentation import augment, cut, erase, flip, paste_rare
from training.data.batch import collate
from training.data.sample import Sample
from training.data.taught_frame import CELL_PX, FrameBoxes, TaughtFrame, resampled
from training.networks.strides import SEGMENTATION_STRIDE

GEOMETRY_ONLY = AugmentationRecipe(
    brightness=0, contrast=0, gamma=0, saturation=0, gain=0, hue_degrees=0, grey=0, blur=0, noise=0, jpeg=0, shade=0
)
CLASSES = 11


def boxes(places: list[list[float]], label: int = 0) -> FrameBoxes:
    xyxy = np.array(places, np.float32).reshape(-1, 4)
    return FrameBoxes(xyxy, np.full(len(xyxy), label, np.int64), np.full(len(xyxy), 0.75, np.float32))


def said(cells: NDArray[np.float32], objects: FrameBoxes) -> TaughtFrame:
    return TaughtFrame(cells, objects, boxes([]), np.ones(CLASSES, np.bool_), np.ones(4, np.bool_))


def scene(seed: int = 0, height: int = 120, width: int = 160, car: int = 8) -> Sample:
    """Return a road with three cars, of which the teachers say what the labels say."""
    rng = np.random.default_rng(seed)
    mask = np.full((height, width), 3, np.uint8)
    mask[: height // 3] = 0
    places = []
    for number in range(3):
        left, top = 52 * number, 4 * int(rng.integers(11, 15))
        place = [left, top, left + 4 * int(rng.integers(5, 9)), top + 4 * int(rng.integers(5, 9))]
        mask[place[1] : place[3], place[0] : place[2]] = car
        places.append(place)
    image = np.repeat((mask * 20)[..., None], 3, axis=2).astype(np.uint8)
    found = boxes(places)
    cells = np.eye(CLASSES, dtype=np.float32)[mask[::CELL_PX, ::CELL_PX]]
    return Sample("scene", image, mask, found.xyxy, found.labels, taught=said(cells, found))


def taught_by(sample: Sample) -> tuple[TaughtFrame, NDArray[np.float32]]:
    assert sample.taught is not None
    assert sample.taught.probabilities is not None
    return sample.taught, sample.taught.probabilities


def test_a_cell_is_one_of_the_class_maps_of_a_student() -> None:
    assert CELL_PX == SEGMENTATION_STRIDE


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_words_follow_the_labels_through_crop_zoom_and_flip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample = augment(scene(seed), None, 96, 128, GEOMETRY_ONLY, rng, CAMVID)
    taught, cells = taught_by(sample)
    assert cells.shape == (24, 32, CLASSES)
    np.testing.assert_array_equal(taught.objects.xyxy, sample.boxes_xyxy)
    # Within two cells of an edge between classes, both are probable.
    around = np.ones((21, 21), np.uint8)
    alike = (cv2.dilate(sample.mask, around) == cv2.erode(sample.mask, around))[2::4, 2::4]
    labels, spoken = sample.mask[2::4, 2::4], cells.sum(axis=2) >= 0.5
    clear = alike & (labels != 255)
    assert (cells.argmax(axis=2)[clear] == labels[clear]).all()
    # They say something about cells of the frame, and nothing about padding; the edge may go through a cell.
    labelled = (sample.mask != 255).reshape(24, 4, 32, 4).mean(axis=(1, 3))
    assert spoken[labelled == 1].all()
    assert not spoken[labelled == 0].any()


@settings(max_examples=40, deadline=None)
@given(
    cells=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3)),
    start=st.floats(-8, 8),
    length=st.floats(0.5, 40),
    count=st.integers(1, 20),
    axis=st.sampled_from([0, 1]),
)
def test_resampled_cells_say_no_more_than_the_given_ones(
    cells: tuple[int, int, int], start: float, length: float, count: int, axis: int
) -> None:
    given_cells = np.random.default_rng(0).random(cells, dtype=np.float32)
    found = resampled(given_cells, start, start + length, count, axis)
    assert found.shape[axis] == count
    assert (found >= 0).all()
    assert found.max() <= given_cells.max() + 1e-5
    constant = resampled(np.ones_like(given_cells), start, start + length, count, axis)
    assert constant.max() <= 1 + 1e-5


def test_a_crop_by_whole_cells_and_a_mirror_keep_every_value() -> None:
    sample = scene()
    _, whole = taught_by(sample)
    noisy = np.random.default_rng(1).random(whole.shape, dtype=np.float32)
    assert sample.taught is not None
    sample = replace(sample, taught=replace(sample.taught, probabilities=noisy))
    _, crop = taught_by(cut(sample, (12, 8, 140, 104), 96, 128, visible_share_min=0.3))
    np.testing.assert_array_equal(crop, noisy[2:26, 3:35])
    _, turned = taught_by(flip(sample))
    np.testing.assert_array_equal(turned, noisy[:, ::-1])


def test_smaller_views_take_means_of_cells() -> None:
    cells = np.random.default_rng(1).random((8, 8, 3), dtype=np.float32)
    half = resampled(cells, 0, 8, 4, axis=0)
    expected = (cells[1] + 3 * cells[2] + 3 * cells[3] + cells[4]) / 8  # a triangle as wide as four cells
    np.testing.assert_allclose(half[1], expected, rtol=1e-5)


def test_outside_of_the_frame_nothing_is_said() -> None:
    batch = collate([cut(scene(), (-40, -32, 200, 148), 192, 256, visible_share_min=0.3)])
    assert batch.taught is not None
    assert batch.taught.counts is not None
    counts = batch.taught.counts[0].numpy()
    assert not counts[:8].any()
    assert not counts[:, :10].any()
    assert counts[10:40, 12:50].all()


def test_an_object_that_the_crop_cuts_is_ignored() -> None:
    sample = replace(scene(), taught=said(np.ones((30, 40, CLASSES), np.float32), boxes([[0, 40, 40, 80]])))
    taught, _ = taught_by(cut(sample, (32, 0, 96, 96), 96, 64, visible_share_min=0.3))
    assert len(taught.objects.labels) == 0
    assert taught.ignored.xyxy.tolist() == [[0, 40, 8, 80]]
    away, _ = taught_by(cut(sample, (64, 0, 128, 96), 96, 64, visible_share_min=0.3))
    assert len(away.objects.labels) == len(away.ignored.labels) == 0


def test_pasted_objects_bring_what_was_said_about_them() -> None:
    first, second = scene(), scene(2, car=9)  # 9 is a rare class
    pasted = paste_rare(first, replace(second, labels=np.ones(3, np.int64)), np.random.default_rng(0), CAMVID)
    taught, cells = taught_by(pasted)
    there = (pasted.mask == 9)[2::4, 2::4]
    assert there.any()
    assert (cells.argmax(axis=2) == np.where(there, 9, taught_by(first)[1].argmax(axis=2))).all()
    # The teachers call the pasted objects cars, a class that is not pasted: they are no objects.
    corners = first.boxes_xyxy.astype(int)
    hidden = np.array([(pasted.mask[y0:y1, x0:x1] == 9).mean() > 0.6 for x0, y0, x1, y1 in corners])
    assert hidden.any()
    np.testing.assert_array_equal(taught.objects.xyxy, first.boxes_xyxy[~hidden])
    np.testing.assert_array_equal(taught.ignored.xyxy, first.boxes_xyxy[hidden])
    pedestrians = replace(taught_by(second)[0], objects=boxes(second.boxes_xyxy.tolist(), label=1))
    pasted = paste_rare(first, replace(second, taught=pedestrians), np.random.default_rng(0), CAMVID)
    brought = taught_by(pasted)[0].objects
    np.testing.assert_array_equal(brought.xyxy[brought.labels == 1], second.boxes_xyxy)


def test_nothing_is_said_about_erased_pixels() -> None:
    sample = scene()
    erased = erase(sample, np.random.default_rng(0))
    _, cells = taught_by(erased)
    inside = (erased.mask == 255).reshape(30, 4, 40, 4).mean(axis=(1, 3))
    assert (inside == 1).any()
    np.testing.assert_allclose(cells.sum(axis=2), 1 - inside, atol=1e-6)


def test_a_batch_holds_logarithms_and_moves_as_a_whole() -> None:
    cells = np.zeros((2, 3, CLASSES), np.float32)
    cells[0, :, 2], cells[0, :, 5] = 0.6, 0.2  # a cell of which a fifth is unknown
    image, mask = np.zeros((8, 12, 3), np.uint8), np.zeros((8, 12), np.uint8)
    frame = Sample("cells", image, mask, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    batch = collate([replace(frame, taught=said(cells, boxes([[0, 0, 4, 4]])))] * 2)
    taught = batch.taught
    assert taught is not None
    assert taught.logits is not None
    assert taught.counts is not None
    assert taught.logits[1, 2, 0].exp().tolist() == pytest.approx([0.75] * 3)
    assert taught.counts[1].tolist() == [[True] * 3, [False] * 3]
    assert taught.logits.isfinite().all()
    moved = batch.to("meta").taught
    assert moved is not None
    assert moved.scores[1].device.type == moved.known_boxes.device.type == "meta"
    assert collate([frame]).taught is None
