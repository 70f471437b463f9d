"""Test labels that move: other views and hidden objects. What labels say must be what the picture shows."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.conditions.condition import SEVERITIES, VIEWPOINT, FrameCondition
from training.conditions.table import CONDITIONS
from training.conditions.viewpoint import warped
from training.data.augmentation import PAD_VALUE
from training.data.sample import Sample

HEIGHT, WIDTH = 240, 400
BY_NAME = {condition.name: condition for condition in CONDITIONS}
VIEWS = [condition for condition in CONDITIONS if condition.family == VIEWPOINT]
NOTHING = np.zeros((0, 4), np.float32)
COLORS = {1: (255, 40, 40), 2: (40, 255, 40), 3: (40, 40, 255)}


def discs(places: tuple[tuple[int, int, int], ...], name: str = "discs") -> Sample:
    """Return a frame with a disc (x, y, radius) for each place, in the colour of its class, with mask and box."""
    image, mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    boxes = []
    for label, (x, y, radius) in enumerate(places, start=1):
        cv2.circle(image, (x, y), radius, COLORS[label], -1)
        cv2.circle(mask, (x, y), radius, (label,), -1)
        boxes.append((x - radius, y - radius, x + radius + 1, y + radius + 1))
    found = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(name, image, mask, found, np.arange(len(boxes)))


THREE = ((120, 110, 30), (210, 130, 24), (290, 120, 18))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("condition", VIEWS, ids=lambda condition: condition.name)
def test_masks_and_boxes_are_where_the_objects_are(condition: FrameCondition, severity: int) -> None:
    changed = condition.applied(discs(THREE), severity)

    black = (changed.image_bgr < 15).all(axis=2)
    for label, color in COLORS.items():
        shown = (np.abs(changed.image_bgr.astype(int) - color) < 60).all(axis=2)
        masked = changed.mask == label
        if shown.sum() > 30:
            assert (shown & masked).sum() / (shown | masked).sum() > 0.85
        else:
            assert masked.sum() < 60
    assert not (black & np.isin(changed.mask, list(COLORS))).any()
    outside = changed.mask == 255
    grey = (changed.image_bgr == PAD_VALUE).all(axis=2)
    assert (outside == grey).mean() > 0.98
    for box, label in zip(changed.boxes_xyxy, changed.labels, strict=True):
        if (box[:2] <= 0).any() or (box[2:] >= (WIDTH, HEIGHT)).any():
            continue  # the visible part of a disc that is cut need not reach the corners of its clipped box
        rows, columns = np.nonzero(changed.mask == label + 1)
        extent = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(box - extent).max() <= 3.0, (box, extent)


@given(st.integers(-60, WIDTH + 60), st.integers(-60, HEIGHT + 60), st.integers(2, 50))
@settings(max_examples=60)
def test_no_box_is_lost_and_none_is_invented(x: int, y: int, radius: int) -> None:
    sample = Sample(
        "one",
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((HEIGHT, WIDTH), np.uint8),
        np.array([[150, 80, 150 + radius, 80 + radius]], np.float32),
        np.array([2]),
    )
    shift = np.array([[1, 0, x - 150], [0, 1, y - 80], [0, 0, 1]], np.float64)

    moved = warped(sample, shift)

    wide, high = (max(0, min(at + radius, side) - max(at, 0)) for at, side in ((x, WIDTH), (y, HEIGHT)))
    visible = wide * high / radius**2
    assert moved.ignored_xyxy is not None
    assert moved.ignored_labels is not None
    assert len(moved.boxes_xyxy) + len(moved.ignored_xyxy) == (visible > 0)
    if min(wide, high) < 3 or visible < 0.24:
        assert not len(moved.boxes_xyxy)
        assert set(moved.ignored_labels.tolist()) <= {2}
    elif visible > 0.26:
        assert np.allclose(moved.boxes_xyxy, [[max(0, x), max(0, y), min(WIDTH, x + radius), min(HEIGHT, y + radius)]])


def test_ignored_regions_and_confidence_move_too() -> None:
    sample = replace(
        discs(THREE),
        ignored_xyxy=np.array([[100, 100, 140, 140]], np.float32),
        ignored_labels=np.array([-1]),
        confidence=np.full((HEIGHT, WIDTH), 90, np.uint8),
    )
    wider = BY_NAME["shorter_focus"].applied(sample, 5)
    assert wider.ignored_xyxy is not None
    assert wider.ignored_labels is not None
    assert wider.confidence is not None
    regions = wider.ignored_xyxy[wider.ignored_labels == -1]
    assert (regions[:, 2:] - regions[:, :2]).tolist() == [pytest.approx([12, 12], abs=0.1)]
    assert (wider.confidence == 90).mean() == pytest.approx(0.09, abs=0.01)
    assert (wider.confidence[wider.mask == 255] == 255).all()


def test_a_frame_without_boxes_is_turned() -> None:
    sample = replace(discs(()), boxes_xyxy=NOTHING, labels=np.zeros(0, np.int64))
    assert BY_NAME["roll"].applied(sample, 5).boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_share_of_every_box_is_hidden(severity: int) -> None:
    condition, sample = BY_NAME["occlusion"], discs(THREE)
    changed = condition.applied(sample, severity)
    hidden = (changed.image_bgr != sample.image_bgr).any(axis=2)

    assert np.array_equal(changed.boxes_xyxy, sample.boxes_xyxy)
    assert np.array_equal(changed.labels, sample.labels)
    assert (changed.mask[hidden] == 255).all()
    assert np.array_equal(changed.mask[changed.mask != 255], sample.mask[changed.mask != 255])
    for left, top, right, bottom in sample.boxes_xyxy.astype(int):
        share = (changed.mask[top:bottom, left:right] == 255).mean()
        assert share == pytest.approx(condition.value(severity), abs=0.06)
    before = condition.applied(sample, severity - 1)
    assert (changed.mask[before.mask == 255] != 255).sum() < 0.1 * (
        before.mask == 255
    ).sum() + 1  # what was hidden stays hidden
