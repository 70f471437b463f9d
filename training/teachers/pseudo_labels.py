"""PseudoLabels: what teachers say about a frame, in the classes of a student. Importing this does not load torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PseudoLabels:
    """Labels of a frame by teachers. Coordinates are pixels of the frame, h x w.

    Attributes:
        mask: uint8 (h, w), ids of the student's classes of masks. 255 where no teacher is sure. None if no teacher
            says anything about masks.
        confidence: float32 (h, w), 0..1: the probability of the class in `mask`, or of the most probable class where
            `mask` is 255. None without `mask`.
        boxes_xyxy: float32 (n, 4), objects of which a teacher is sure, within the frame.
        labels: int64 (n,), ids of the student's classes of boxes.
        scores: float32 (n,), 0..1.
        ignored_xyxy: float32 (m, 4), regions that are neither objects nor background: a teacher is unsure there, or
            sees an object of a class that the student does not have.
        ignored_labels: int64 (m,), the class for which a region is ignored; -1 = every class.
        labeled_pixels: bool (C,), for each of the student's classes of masks whether a teacher knows it. Where it is
            False, `mask` says nothing about the class.
        labeled_boxes: bool (K,), for each of the student's classes of boxes whether a teacher knows it. A missing box
            of another class means nothing.
    """

    mask: NDArray[np.uint8] | None
    confidence: NDArray[np.float32] | None
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    ignored_xyxy: NDArray[np.float32]
    ignored_labels: NDArray[np.int64]
    labeled_pixels: NDArray[np.bool_]
    labeled_boxes: NDArray[np.bool_]

    def __post_init__(self) -> None:
        boxes = ((self.boxes_xyxy, self.labels, "boxes"), (self.ignored_xyxy, self.ignored_labels, "ignored regions"))
        for places, numbers, what in boxes:
            if places.shape != (len(numbers), 4):
                raise ValueError(f"{len(numbers)} labels need {what} of shape ({len(numbers)}, 4), got {places.shape}")
        if self.scores.shape != self.labels.shape:
            raise ValueError(f"{len(self.labels)} boxes need as many scores, got {self.scores.shape}")
        if getattr(self.mask, "shape", None) != getattr(self.confidence, "shape", None):
            raise ValueError("mask and confidence have one shape, or both are None")
