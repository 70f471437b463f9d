"""Counts where a student gives the wrong answer of its teachers, on frames with labels.

Errors are counted by pairs of classes: what the label says, and what the teachers say. In boxes, "nothing" is a class
of its own: a teacher may see an object where none is, or overlook one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.structures import Detections, Float32Array
from training.compare.teacher_answers import Answer
from training.data.sample import Sample

SAME_OBJECT_IOU = 0.5
NOTHING = "nothing"

Counts = NDArray[np.int64]


@dataclass
class ErrorCounts:
    """Errors of teachers in one task, by the class of the label (row) and that of the teachers (column).

    Attributes:
        names: Names of the classes; in boxes, the last one is NOTHING.
        labelled: int64 (classes,), labelled pixels about which the teachers said something, or true boxes.
        wrong: int64 (classes, classes), errors of the teachers.
        followed: int64 (classes, classes), those of them that the student makes, too.
    """

    names: tuple[str, ...]
    labelled: Counts
    wrong: Counts
    followed: Counts

    @classmethod
    def none(cls, names: tuple[str, ...]) -> ErrorCounts:
        """Return counts of no frames."""
        classes = len(names)
        return cls(names, np.zeros(classes, np.int64), *np.zeros((2, classes, classes), np.int64))

    def to_json(self) -> dict[str, Any]:
        """Return plain values: names, labelled, and [label, teachers, errors, followed] of each pair with errors."""
        pairs = [
            [int(row), int(column), int(self.wrong[row, column]), int(self.followed[row, column])]
            for row, column in np.argwhere(self.wrong)
        ]
        return {"names": list(self.names), "labelled": self.labelled.tolist(), "pairs": pairs}

    @classmethod
    def of_json(cls, content: dict[str, Any]) -> ErrorCounts:
        """Return the counts of `to_json`."""
        counts = cls.none(tuple(content["names"]))
        counts.labelled[:] = content["labelled"]
        for row, column, wrong, followed in content["pairs"]:
            counts.wrong[row, column], counts.followed[row, column] = wrong, followed
        return counts


def count_pixels(counts: ErrorCounts, sample: Sample, answer: Answer, class_map: NDArray[np.uint8]) -> None:
    """Add the pixels of a frame.

    Args:
        counts: Gets them.
        sample: Frame with the labels of classes that the teachers know.
        answer: What the teachers say.
        class_map: uint8 (h, w), what the student says.
    """
    classes = len(counts.names)
    valid = (sample.mask < classes) & answer.taught
    wrong = valid & (answer.mask != sample.mask)
    counts.labelled += np.bincount(sample.mask[valid], minlength=classes)
    for places, table in ((wrong, counts.wrong), (wrong & (class_map == answer.mask), counts.followed)):
        pairs = sample.mask[places].astype(np.int64) * classes + answer.mask[places]
        table += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def count_boxes(
    counts: ErrorCounts, sample: Sample, answer: Answer, box_sure: float | NDArray[np.float32], found: Detections
) -> None:
    """Add the boxes of a frame.

    Args:
        counts: Gets them.
        sample: Frame with the labels of classes that the teachers know.
        answer: What the teachers say.
        box_sure: Lowest score of a teacher's box that is an object to the student: of all classes, or of each.
        found: Boxes of the student that it would report.
    """
    if sample.labeled_boxes is None or not sample.has_boxes:
        return
    least = np.broadcast_to(np.asarray(box_sure, np.float32), sample.labeled_boxes.shape)
    said = answer.boxes.rows(answer.boxes.scores >= least[answer.boxes.labels])
    counted = sample.labeled_boxes[said.labels] & ~_ignored(said, sample)
    said = said.rows(counted)
    counts.labelled += np.bincount(sample.labels, minlength=len(counts.names))
    for row, column, box in _box_errors(sample, said, len(counts.names) - 1):
        same_place = (iou_xyxy(box[None], found.boxes_xyxy) >= SAME_OBJECT_IOU)[0]
        overlooked = column == len(counts.names) - 1
        follows = not same_place.any() if overlooked else bool((same_place & (found.labels == column)).any())
        counts.wrong[row, column] += 1
        counts.followed[row, column] += follows


def _box_errors(sample: Sample, said: Detections, nothing: int) -> Iterator[tuple[int, int, Float32Array]]:
    """Yield the errors: class of the label, class of the teachers, and the box."""
    overlaps = iou_xyxy(said.boxes_xyxy, sample.boxes_xyxy) >= SAME_OBJECT_IOU
    same_class = said.labels[:, None] == sample.labels[None]
    for place in np.flatnonzero(~(overlaps & same_class).any(axis=1)):
        there = np.flatnonzero(overlaps[place])
        truth = int(sample.labels[there[0]]) if len(there) else nothing
        yield truth, int(said.labels[place]), said.boxes_xyxy[place]
    for place in np.flatnonzero(~overlaps.any(axis=0)):
        yield int(sample.labels[place]), nothing, sample.boxes_xyxy[place]


def _ignored(said: Detections, sample: Sample) -> NDArray[np.bool_]:
    """Return for each box whether half of it lies in a region that says nothing about its class, as COCO's crowds."""
    if sample.ignored_xyxy is None or sample.ignored_labels is None or not len(sample.ignored_labels):
        return np.zeros(len(said), np.bool_)
    one, other = said.boxes_xyxy[:, None], sample.ignored_xyxy[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=2)
    area = np.clip(one[..., 2:] - one[..., :2], 1e-6, None).prod(axis=2)
    concerns = (sample.ignored_labels < 0)[None] | (sample.ignored_labels[None] == said.labels[:, None])
    inside: NDArray[np.bool_] = ((shared / area >= SAME_OBJECT_IOU) & concerns).any(axis=1)
    return inside
