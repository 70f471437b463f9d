"""Boxes without tracks and without labels: a box of one frame, moved by the flow, should have a partner in the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.boxes import iou_xyxy, match_by_iou
from ros_kd_perception.sample_drive.flow import Flow
from ros_kd_perception.structures import Detections

IOU_MIN = 0.5
MIDDLE = 0.7  # of each side of a box: its corners mostly show what is behind the object
FOLLOWED_MIN = 0.3  # of the middle must be seen in both frames
GROWTH_MAX = 1.5
INSIDE_MIN = 0.7  # of the area of a moved box must lie in the frame

Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class PartnerCounts:
    """Boxes of one or several pairs of frames.

    Attributes:
        boxes: Boxes of the earlier frame that could be followed.
        alone: Those of them without a box of their class and place in the later frame.
    """

    boxes: int = 0
    alone: int = 0

    def __add__(self, other: PartnerCounts) -> PartnerCounts:
        return PartnerCounts(self.boxes + other.boxes, self.alone + other.alone)

    @property
    def share(self) -> float | None:
        """Share of the boxes without a partner, 0..1; None without boxes."""
        return self.alone / self.boxes if self.boxes else None


def partners(earlier: Detections, later: Detections, flow: Flow) -> PartnerCounts:
    """Count the boxes of the earlier frame that have no partner in the later one.

    A partner has the same class, and an IoU of at least IOU_MIN with the box after it was moved by the flow. Boxes that
    leave the frame, or whose pixels cannot be followed, do not count.

    Args:
        earlier: Boxes that are reported in the earlier frame.
        later: Boxes that are reported in the later frame.
        flow: Motion of the pixels of the later frame.
    """
    total = PartnerCounts()
    moved = [moved_box(box, flow) for box in earlier.boxes_xyxy]
    kept = np.array([box is not None for box in moved], np.bool_)
    boxes = np.array([box for box in moved if box is not None], np.float32).reshape(-1, 4)
    labels = earlier.labels[kept]
    for label in np.unique(labels):
        ours, theirs = boxes[labels == label], later.boxes_xyxy[later.labels == label]
        matched = match_by_iou(iou_xyxy(ours, theirs), IOU_MIN)
        total += PartnerCounts(len(ours), len(ours) - len(matched))
    return total


def moved_box(box_xyxy: Boxes, flow: Flow) -> Boxes | None:
    """Return a box of the earlier frame where the flow brings it in the later one, clipped to the frame, float32 (4,).

    Each axis is shifted and scaled as the pixels of the middle of the box are.

    Returns:
        None if too few of them can be followed, or if too little of the box stays inside of the frame.
    """
    height, width = flow.visible.shape
    middle, half = (box_xyxy[:2] + box_xyxy[2:]) / 2, (box_xyxy[2:] - box_xyxy[:2]) / 2
    offsets = np.abs(flow.places - middle)
    pixels = flow.visible & (offsets <= MIDDLE * half).all(axis=-1)
    rows, columns = np.nonzero(pixels)
    if len(rows) < max(FOLLOWED_MIN * float(np.prod(2 * MIDDLE * half)), 4):
        return None
    later = np.stack([columns, rows], axis=-1).astype(np.float64)
    before = flow.places[pixels].astype(np.float64)
    moved = np.empty((2, 2))  # corners, axes
    for axis in (0, 1):
        growth = _growth(before[:, axis], later[:, axis])
        shift = np.median(later[:, axis] - growth * before[:, axis])
        moved[:, axis] = growth * box_xyxy[[axis, axis + 2]] + shift
    clipped = np.clip(moved, 0, (width, height))
    if np.prod(clipped[1] - clipped[0]) < INSIDE_MIN * np.prod(moved[1] - moved[0]):
        return None
    return clipped.reshape(4).astype(np.float32)


def _growth(before: NDArray[np.float64], later: NDArray[np.float64]) -> float:
    """Return the slope of a line through places before and later, by least squares."""
    spread = before - before.mean()
    variance = float((spread**2).mean())
    if variance < 1.0:  # the box is too small to tell a growth
        return 1.0
    slope = float((spread * (later - later.mean())).mean() / variance)
    return float(np.clip(slope, 1 / GROWTH_MAX, GROWTH_MAX))
