"""The reference for parity: the outputs of a trained network for one frame, with tolerances for rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.structures import Detections
from training.networks.deployed import block_uncertainty
from training.networks.heads import DetectionOutputs, decode_clipped_boxes

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Two orders of summation differ by 1e-6 of the largest logit (measured, sizes n to l). An error of 1 % gives 1e-2.
RELATIVE_TOLERANCE = 1e-4
# Runtimes compute the sigmoid to about 1e-7, whatever the score.
SCORE_ROUNDING = 1e-6
# The corners of a box may be off by a few hundredths of a pixel; of a box of 4 px, that is 0.02 of the IoU.
OVERLAP_ROUNDING = 0.02


@dataclass(frozen=True)
class SegmentationReference:
    """The network's segmentation of one frame, with a tolerance.

    Attributes:
        logits: [classes, H / 4, W / 4].
        tolerance: Tolerance in logits: a share of the largest one, because rounding grows with the values that are
            summed.
        uncertainty: [H / 32, W / 32].
    """

    logits: Float64Array
    tolerance: float
    uncertainty: Float64Array

    @classmethod
    def of(cls, segmentation_logits: torch.Tensor) -> SegmentationReference:
        """Decode the logits [N, classes, H / 4, W / 4] of the first frame."""
        return cls(
            logits=_numpy(segmentation_logits[0]),
            tolerance=_tolerance(segmentation_logits),
            uncertainty=_numpy(block_uncertainty(segmentation_logits)[0]),
        )

    def wrong_cells(self, class_map: NDArray[Any]) -> BoolArray:
        """Return the cells of a class map [H / 4, W / 4] whose class has a lower logit than another class.

        Ties are left out.
        """
        named = np.minimum(class_map, len(self.logits) - 1)
        logit = np.take_along_axis(self.logits, named[None].astype(np.int64), axis=0)[0]
        margin = self.logits.max(axis=0) - logit
        return np.asarray((margin > self.tolerance) | (class_map != named))

    def tied_cells(self, class_map: NDArray[Any]) -> BoolArray:
        """Return the cells of a class map that differ from the network's where the network is undecided."""
        return np.asarray((class_map != self.logits.argmax(axis=0)) & ~self.wrong_cells(class_map))

    def wrong_blocks(self, uncertainty: NDArray[Any]) -> BoolArray:
        """Return the blocks of an uncertainty [H / 32, W / 32] that differ from the network's."""
        close = np.abs(self.uncertainty - uncertainty) <= self.tolerance  # False for NaN
        return np.asarray(~close)


@dataclass(frozen=True)
class DetectionReference:
    """The network's output for every detection cell of one frame, with tolerances.

    A tolerance is a share of the largest logit of its kind, because rounding grows with the values that are summed.
    Each cell has two values for each class: the lowest and the highest logit that rounding can produce. They differ
    clearly where a cell and a neighbour are a tie, because one of the two is suppressed.

    Attributes:
        lowest, highest: Class logits of each detection cell, [A, classes].
        class_tolerance: Tolerance in logits.
        boxes_xyxy: [A, 4], input pixels.
        box_tolerance_px: Tolerance of each cell's box, [A]; it is larger for coarse cells.
        scales, shifts: What becomes of the logit of each class after the best one is chosen, [classes].
    """

    lowest: Float64Array
    highest: Float64Array
    class_tolerance: float
    boxes_xyxy: Float64Array
    box_tolerance_px: Float64Array
    scales: Float64Array
    shifts: Float64Array

    @classmethod
    def of(
        cls, detection: DetectionOutputs, height: int, width: int, score_scales: Sequence[tuple[float, float]] = ()
    ) -> DetectionReference:
        """Decode the outputs for the first frame, of a network input of `height` x `width` pixels."""
        class_tolerance = _tolerance(*detection.class_logits)
        lowest, highest = detection.peak_bounds(class_tolerance)
        distance_logits, cells = detection.flat_distance_logits()[0], detection.cells()
        limit = cells.new_tensor([width, height])
        strides = _numpy(cells[:, 2])
        scales, shifts = np.array(score_scales or [(1.0, 0.0)] * lowest.shape[2], np.float64).T
        return cls(
            lowest=_numpy(lowest[0]),
            highest=_numpy(highest[0]),
            class_tolerance=class_tolerance,
            boxes_xyxy=_numpy(decode_clipped_boxes(distance_logits, cells, limit)),
            # The distance is at most one stride times its logit. The corner adds the rounding of its coordinate.
            box_tolerance_px=strides * _tolerance(distance_logits) + 1e-6 * max(height, width),
            scales=scales,
            shifts=shifts,
        )

    def cells_of(self, box_xyxy: NDArray[Any], score: float, label: int) -> BoolArray:
        """Return the cells, [A], that can have produced a row, by its box, its score and its label."""
        if not 0 <= label < self.lowest.shape[1]:
            return np.zeros(len(self.lowest), np.bool_)
        low, high, least = self.lowest[:, label], self.highest[:, label], self._least()
        fits = np.zeros(len(low), np.bool_)
        for value in (low, high):
            fits |= self._scores_like(value, score, label) & (value + self.class_tolerance >= least)
        off_px = np.abs(self.boxes_xyxy - box_xyxy).max(axis=1)
        return np.asarray(fits & (off_px <= self.box_tolerance_px))

    def cells_above(self, score: float) -> BoolArray:
        """Return the cells, [A], whose best score is above `score` for any rounding, and any class that it lets win."""
        return np.asarray(self._lowest_scores() - SCORE_ROUNDING > score)

    def repeated_cells(self, score: float, overlap_max: float) -> BoolArray:
        """Return the cells, [A], that may repeat a cell which scores no less, of those that may be above `score`."""
        lowest, highest = self._lowest_scores(), self._highest_scores()
        chosen = np.flatnonzero(highest + SCORE_ROUNDING >= score)
        classes = self._can_be_best()[chosen]
        alike = (classes[:, None] & classes[None]).any(axis=2)
        scores_no_less = highest[chosen][None] + SCORE_ROUNDING >= lowest[chosen][:, None]
        np.fill_diagonal(scores_no_less, val=False)
        overlap = _overlaps(self.boxes_xyxy[chosen]) > overlap_max - OVERLAP_ROUNDING
        repeated = np.zeros(len(lowest), np.bool_)
        repeated[chosen] = (alike & scores_no_less & overlap).any(axis=1)
        return repeated

    def repeated_rows(self, rows: Detections, overlap_max: float) -> int:
        """Return the number of rows that overlap a row before them, of the same class, by more than rounding allows."""
        overlap = _overlaps(rows.boxes_xyxy) > overlap_max + OVERLAP_ROUNDING
        alike = rows.labels[:, None] == rows.labels[None]
        return int(np.triu(overlap & alike, k=1).any(axis=0).sum())

    def _lowest_scores(self) -> Float64Array:
        """Return the lowest score that each cell can have, [A]."""
        scaled = self.scales * (self._least()[:, None] - self.class_tolerance) + self.shifts
        return np.asarray(expit(np.where(self._can_be_best(), scaled, np.inf).min(axis=1)))

    def _highest_scores(self) -> Float64Array:
        """Return the highest score that each cell can have, [A]."""
        scaled = self.scales * (self.highest + self.class_tolerance) + self.shifts
        return np.asarray(expit(np.where(self._can_be_best(), scaled, -np.inf).max(axis=1)))

    def _can_be_best(self) -> BoolArray:
        """Return the classes that rounding lets win in each cell, [A, classes]."""
        return np.asarray(self.highest + 2 * self.class_tolerance >= self._least()[:, None])

    def _least(self) -> Float64Array:
        """Return the lowest logit that the best class of each cell can have, [A]."""
        return np.asarray(self.lowest.max(axis=1))

    def _scores_like(self, logits: Float64Array, score: float, label: int) -> BoolArray:
        scale, shift = self.scales[label], self.shifts[label]
        below, above = (expit(scale * (logits + off) + shift) for off in (-self.class_tolerance, self.class_tolerance))
        return np.asarray((score >= below - SCORE_ROUNDING) & (score <= above + SCORE_ROUNDING))


def _overlaps(boxes_xyxy: NDArray[Any]) -> NDArray[np.float32]:
    """Return the IoU of each pair of boxes, [N, N]."""
    boxes = boxes_xyxy.astype(np.float32)
    return iou_xyxy(boxes, boxes)


def _tolerance(*logits: torch.Tensor) -> float:
    return RELATIVE_TOLERANCE * max(1.0, *(float(level.abs().max()) for level in logits))


def _numpy(values: torch.Tensor) -> Float64Array:
    return np.asarray(values.cpu().numpy(), np.float64)
