"""What a trained network says of one frame, and which other answers are the same up to rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from training.networks.deployed import block_uncertainty
from training.networks.heads import decode_clipped_boxes
from training.networks.student import StudentOutputs

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Two orders of summation differ by 1e-6 of the largest logit, measured from size n to l; a fault of 1 % by 1e-2.
RELATIVE_TOLERANCE = 1e-4
# Runtimes compute the sigmoid to about 1e-7, whatever the score.
SCORE_ROUNDING = 1e-6


@dataclass(frozen=True)
class Reference:
    """What the network says of one frame, of every cell, with the tolerances that follow from it.

    A tolerance is a share of the largest logit of its kind, for rounding grows with what is summed. A cell has two
    values for each class, the lowest and the highest that rounding can make of its logit: they differ where the cell
    and a neighbour are a tie, of which one is pushed down.

    Attributes:
        segmentation_logits: [classes, H / 4, W / 4].
        segmentation_tolerance: in logits.
        uncertainty: [H / 32, W / 32].
        lowest, highest: class logits of each detection cell, [A, classes].
        class_tolerance: in logits.
        boxes_xyxy: [A, 4], input pixels.
        box_tolerance_px: [A]; coarse cells have larger ones.
    """

    segmentation_logits: Float64Array
    segmentation_tolerance: float
    uncertainty: Float64Array
    lowest: Float64Array
    highest: Float64Array
    class_tolerance: float
    boxes_xyxy: Float64Array
    box_tolerance_px: Float64Array

    @classmethod
    def of(cls, outputs: StudentOutputs, height: int, width: int) -> Reference:
        """Decode the outputs for the first frame, of a network input of `height` x `width` pixels."""
        detection = outputs.detection
        class_tolerance = _tolerance(*detection.class_logits)
        lowest, highest = detection.peak_bounds(class_tolerance)
        distance_logits, cells = detection.flat_distance_logits()[0], detection.cells()
        limit = cells.new_tensor([width, height])
        strides = _numpy(cells[:, 2])
        return cls(
            segmentation_logits=_numpy(outputs.segmentation_logits[0]),
            segmentation_tolerance=_tolerance(outputs.segmentation_logits),
            uncertainty=_numpy(block_uncertainty(outputs.segmentation_logits)[0]),
            lowest=_numpy(lowest[0]),
            highest=_numpy(highest[0]),
            class_tolerance=class_tolerance,
            boxes_xyxy=_numpy(decode_clipped_boxes(distance_logits, cells, limit)),
            # The distance is at most a stride times its logit; the corner adds the rounding of its coordinate.
            box_tolerance_px=strides * _tolerance(distance_logits) + 1e-6 * max(height, width),
        )

    def wrong_cells(self, class_map: NDArray[Any]) -> BoolArray:
        """Where a class map [H / 4, W / 4] names a class that the network gives less than another, ties left out."""
        classes = len(self.segmentation_logits)
        named = np.minimum(class_map, classes - 1)
        logit = np.take_along_axis(self.segmentation_logits, named[None].astype(np.int64), axis=0)[0]
        margin = self.segmentation_logits.max(axis=0) - logit
        return np.asarray((margin > self.segmentation_tolerance) | (class_map != named))

    def wrong_blocks(self, uncertainty: NDArray[Any]) -> BoolArray:
        """Where an uncertainty [H / 32, W / 32] is another than the network's."""
        close = np.abs(self.uncertainty - uncertainty) <= self.segmentation_tolerance  # False for NaN
        return np.asarray(~close)

    def cells_of(self, box_xyxy: NDArray[Any], score: float, label: int) -> BoolArray:
        """The cells that can have given a row, [A]: with its box and its score, where its label can be the best."""
        if not 0 <= label < self.lowest.shape[1]:
            return np.zeros(len(self.lowest), np.bool_)
        low, high, least = self.lowest[:, label], self.highest[:, label], self._least()
        fits = np.zeros(len(low), np.bool_)
        for value in (low, high):
            fits |= self._scores_like(value, score) & (value + self.class_tolerance >= least)
        off_px = np.abs(self.boxes_xyxy - box_xyxy).max(axis=1)
        return np.asarray(fits & (off_px <= self.box_tolerance_px))

    def cells_above(self, score: float) -> BoolArray:
        """The cells [A] whose best score is above `score`, however rounding goes."""
        return np.asarray(expit(self._least() - self.class_tolerance) - SCORE_ROUNDING > score)

    def _least(self) -> Float64Array:
        """The logit that the best class of each cell has at least, [A]."""
        return np.asarray(self.lowest.max(axis=1))

    def _scores_like(self, logits: Float64Array, score: float) -> BoolArray:
        below, above = expit(logits - self.class_tolerance), expit(logits + self.class_tolerance)
        return np.asarray((score >= below - SCORE_ROUNDING) & (score <= above + SCORE_ROUNDING))


def _tolerance(*logits: torch.Tensor) -> float:
    return RELATIVE_TOLERANCE * max(1.0, *(float(level.abs().max()) for level in logits))


def _numpy(values: torch.Tensor) -> Float64Array:
    return np.asarray(values.cpu().numpy(), np.float64)
