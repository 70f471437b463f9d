"""The scale of the scores of boxes: fitted for each class, kept only where it holds on other frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from training.evaluation.frame_records import FrameRecords

LEAST_RIGHT = 20  # boxes that are right, and as many that are wrong: two numbers fitted to fewer mean nothing
_LARGEST_SCORE = 1 - 1e-6


@dataclass(frozen=True)
class ScoreScale:
    """What becomes of a score: p -> sigmoid(scale * logit(p) + shift).

    Attributes:
        scale: Above 0, so that the order of boxes stays the same.
        shift: Added to the logit.
    """

    scale: float = 1.0
    shift: float = 0.0

    def of(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scores on this scale."""
        scaled: NDArray[np.float64] = expit(self.scale * logit(np.minimum(scores, _LARGEST_SCORE)) + self.shift)
        return scaled


@dataclass(frozen=True)
class ScoredBoxes:
    """The boxes of a class on a set of frames.

    Attributes:
        scores: float64 (n,).
        right: bool (n,), whether each is right at an IoU of 0.5.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, records: FrameRecords, label: int) -> ScoredBoxes:
        """Return those of a class, without the ones that count neither way."""
        chosen = (records.label == label) & ~records.ignored[0]
        return cls(records.score[chosen], records.hits[0, chosen])

    def negative_log_likelihood(self, scale: ScoreScale) -> float:
        """Return the mean of -ln p of what each box turned out to be."""
        p = np.clip(scale.of(self.scores), 1e-9, 1 - 1e-9)
        return float(-np.log(np.where(self.right, p, 1 - p)).mean())


def fit_scale(sets: Sequence[ScoredBoxes]) -> ScoreScale:
    """Return the scale at which right boxes are likeliest right, each set with the same weight.

    Targets are those of Platt (Probabilistic Outputs for Support Vector Machines, 1999, section 2.2), which keep few
    boxes from asking for a scale without end.

    Args:
        sets: Boxes of one class on each set, none empty.
    """
    logits = np.concatenate([logit(np.minimum(boxes.scores, _LARGEST_SCORE)) for boxes in sets])
    right = np.concatenate([boxes.right for boxes in sets])
    weights = np.concatenate([np.full(len(boxes.scores), 1 / (len(sets) * len(boxes.scores))) for boxes in sets])
    hits, misses = int(right.sum()), int((~right).sum())
    targets = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))

    def loss(values: NDArray[np.float64]) -> float:
        scaled = np.exp(values[0]) * logits + values[1]
        return float(weights @ (np.logaddexp(0, scaled) - targets * scaled))

    logarithm, shift = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=((-2.5, 2.5), (-10, 10))).x
    return ScoreScale(float(np.exp(logarithm)), float(shift))
