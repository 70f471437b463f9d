"""What a vehicle reports of a class: boxes at the score threshold of the file, how many are right, what they find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.evaluation.frame_records import FrameRecords


@dataclass(frozen=True)
class ReportedBoxes:
    """The boxes of a class whose score is at least the threshold, at an IoU of 0.5.

    Attributes:
        boxes: Their number, without those that count neither way.
        right: How many of them are right.
        objects: Number of true objects.
    """

    boxes: int
    right: int
    objects: int

    @property
    def precision(self) -> float | None:
        """Share of the boxes that are right, 0..1; None without boxes."""
        return self.right / self.boxes if self.boxes else None

    @property
    def recall(self) -> float | None:
        """Share of the objects that are found, 0..1; None without objects."""
        return self.right / self.objects if self.objects else None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "precision": self.precision, "recall": self.recall}


def reported_boxes(records: FrameRecords, threshold: float) -> dict[str, ReportedBoxes]:
    """Return the reported boxes of each class that has true objects, by its name.

    Args:
        records: Counts of each frame.
        threshold: The score threshold, 0..1.
    """
    found = {}
    for label, name in enumerate(records.box_classes.tolist()):
        reported = (records.label == label) & (records.score >= threshold) & ~records.ignored[0]
        objects = int(records.true_boxes[:, label].sum())
        if objects:
            found[name] = ReportedBoxes(int(reported.sum()), int(records.hits[0, reported].sum()), objects)
    return found
