"""Compares the boxes of one frame: which are on both sides, which are lost, which are new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ros_kd_perception.candidates.agreement import MATCH_IOU
from ros_kd_perception.differences.classes import CommonClasses
from ros_kd_perception.model.boxes import iou_xyxy, match_by_iou
from ros_kd_perception.structures import Detections

BOX_COLUMNS = ("old", "new", "matched", "iou_sum", "score_change_sum", "score_distance_sum")
"""Columns of a table of boxes: numbers of boxes, and sums over the pairs."""

BoxTable = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BoxDifference:
    """Which boxes of two sides are the same object: the same class name and an IoU of at least `MATCH_IOU`.

    Attributes:
        old, new: The compared boxes. Labels are indices of the common names.
        matched: Row in `old` and row in `new` of each pair, best IoU first.
        ious: IoU of each pair, float64 `[pairs]`.
        renamed: Number of lost boxes that have a new box of another class in their place.
        left_out: Number of boxes with a class that only one side has.
    """

    old: Detections
    new: Detections
    matched: tuple[tuple[int, int], ...]
    ious: npt.NDArray[np.float64]
    renamed: int
    left_out: int

    @property
    def lost(self) -> Detections:
        """Boxes of the old side without a partner."""
        return _others(self.old, [row for row, _ in self.matched])

    @property
    def gained(self) -> Detections:
        """Boxes of the new side without a partner."""
        return _others(self.new, [column for _, column in self.matched])

    @property
    def score_changes(self) -> npt.NDArray[np.float64]:
        """Score of the new box minus that of the old box, for each pair."""
        old = self.old.scores[[row for row, _ in self.matched]].astype(np.float64)
        return np.asarray(self.new.scores[[column for _, column in self.matched]] - old, np.float64)

    def table(self, classes: int) -> BoxTable:
        """Return the counts and sums of each class, float64 `[classes, len(BOX_COLUMNS)]`."""
        labels = self.old.labels[[row for row, _ in self.matched]]
        changes = self.score_changes
        columns = [np.bincount(side.labels, minlength=classes) for side in (self.old, self.new)]
        columns.append(np.bincount(labels, minlength=classes))
        columns += [np.bincount(labels, sums, classes) for sums in (self.ious, changes, np.abs(changes))]
        return np.stack(columns, axis=1).astype(np.float64)


def compare_boxes(old: Detections, new: Detections, classes: CommonClasses) -> BoxDifference:
    """Match the boxes of two sides.

    Boxes without an area are no objects. They are left out, because they overlap nothing.
    """
    old, new = _with_area(old), _with_area(new)
    kept_old, kept_new = (
        _common(side, index, len(classes.names)) for side, index in ((old, classes.old_index), (new, classes.new_index))
    )
    left_out = len(old) + len(new) - len(kept_old) - len(kept_new)
    iou = iou_xyxy(kept_old.boxes_xyxy, kept_new.boxes_xyxy)
    same = kept_old.labels[:, None] == kept_new.labels[None, :]
    pairs = match_by_iou(np.where(same, iou, np.float32(0)), MATCH_IOU)
    others = iou.copy()
    others[[row for row, _ in pairs], :] = 0
    others[:, [column for _, column in pairs]] = 0
    ious = np.array([iou[pair] for pair in pairs], np.float64)
    return BoxDifference(kept_old, kept_new, tuple(pairs), ious, len(match_by_iou(others, MATCH_IOU)), left_out)


def _with_area(found: Detections) -> Detections:
    return found.rows(np.all(found.boxes_xyxy[:, 2:] > found.boxes_xyxy[:, :2], axis=1))


def _common(found: Detections, index: npt.NDArray[np.int32], count: int) -> Detections:
    """Return the boxes of the first `count` indices, with the indices as their labels."""
    labels = index[np.clip(found.labels, 0, 255)]
    known = (found.labels >= 0) & (found.labels <= 255) & (labels < count)
    return Detections(found.boxes_xyxy[known], found.scores[known], labels[known])


def _others(found: Detections, rows: list[int]) -> Detections:
    others = np.ones(len(found), np.bool_)
    others[rows] = False
    return found.rows(others)
