"""Segmentation metrics from one confusion matrix over all frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SegmentationMetrics:
    """Counts pixels by true and predicted class; pixels whose truth is not a class do not count.

    A prediction outside the classes counts as a miss.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        # One column more: predictions that are none of the classes.
        self.confusion = np.zeros((classes, classes + 1), np.int64)

    def update(self, predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one frame; both uint8 of one shape, class ids."""
        if predicted.shape != truth.shape:
            raise ValueError(f"a class map of {predicted.shape} cannot be scored against a mask of {truth.shape}")
        valid = truth < self.classes
        columns = self.classes + 1
        guess = np.minimum(predicted[valid], self.classes).astype(np.int64)
        pairs = truth[valid].astype(np.int64) * columns + guess
        self.confusion += np.bincount(pairs, minlength=self.classes * columns).reshape(self.classes, columns)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class, 0..1; NaN for one that is neither there nor predicted."""
        hits = np.diag(self.confusion).astype(np.float64)
        union = self.confusion.sum(axis=1) + self.confusion[:, : self.classes].sum(axis=0) - hits
        iou: NDArray[np.float64] = np.divide(hits, union, out=np.full(self.classes, np.nan), where=union > 0)
        return iou

    def mean_iou(self) -> float | None:
        """Mean over the classes that occur; None where no pixel was counted."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else None

    def pixel_accuracy(self) -> float | None:
        """Share of labelled pixels that are right; None where no pixel was counted."""
        total = self.confusion.sum()
        return float(np.diag(self.confusion).sum() / total) if total else None
