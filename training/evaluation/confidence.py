"""How far scores and uncertainty can be trusted: reliability of boxes, and what the network knew of its errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.frame_records import FrameRecords

SCORE_BINS = 10
LEAST_SCORE = 0.05  # boxes below are seldom reported, and would outweigh all others


@dataclass(frozen=True)
class Reliability:
    """Scores of boxes beside the share that is right at an IoU of 0.5, in bins of equal width from 0 to 1.

    Attributes:
        boxes: Number of boxes of each bin, from LEAST_SCORE on; those that count neither way are left out.
        mean_score: Mean score of each bin, 0..1; None for an empty one.
        right: Share of each bin that is right; None for an empty one.
        error: Expected calibration error, 0..1 (Guo et al., On Calibration of Modern Neural Networks, ICML 2017,
            equation 3; of boxes: Kueppers et al., Multivariate Confidence Calibration for Object Detection, 2020). None
            without boxes.
    """

    boxes: tuple[int, ...]
    mean_score: tuple[float | None, ...]
    right: tuple[float | None, ...]
    error: float | None


@dataclass(frozen=True)
class Doubt:
    """What the uncertainty of 32x32 blocks says about wrong pixels.

    Attributes:
        auroc: Chance that a wrong pixel has a higher uncertainty than a right one, 0..1; 0.5 says nothing. None if no
            pixel is wrong, none is right, or the model has no uncertainty.
        kept: Shares of the pixels that remain if the most uncertain blocks are left out, in ascending order.
        wrong: Share of wrong pixels among them (the risk-coverage curve; Geifman and El-Yaniv, Selective Classification
            for Deep Neural Networks, NeurIPS 2017).
    """

    auroc: float | None
    kept: tuple[float, ...]
    wrong: tuple[float, ...]

    def wrong_of(self, kept: float) -> float | None:
        """Return the share of wrong pixels if at least this share is kept; None without an uncertainty."""
        return next((wrong for share, wrong in zip(self.kept, self.wrong, strict=True) if share >= kept), None)


@dataclass(frozen=True)
class Confidence:
    """How far the scores and the uncertainty of a model can be trusted on a set of frames.

    Attributes:
        boxes: Reliability over all classes; None for a model without boxes.
        by_class: Reliability of each class.
        doubt: What the uncertainty is worth; None for a model without masks.
    """

    boxes: Reliability | None
    by_class: dict[str, Reliability]
    doubt: Doubt | None


def confidence_of(records: FrameRecords) -> Confidence:
    """Return how far scores and uncertainty can be trusted."""
    scored = np.flatnonzero(~records.ignored[0] & (records.score >= LEAST_SCORE))
    names = records.box_classes.tolist()
    by_class = {name: _reliability(records, scored[records.label[scored] == n]) for n, name in enumerate(names)}
    return Confidence(
        _reliability(records, scored) if names else None,
        by_class,
        doubt_of(records.doubt.sum(axis=0, dtype=np.int64)) if len(records.mask_classes) else None,
    )


def _reliability(records: FrameRecords, places: NDArray[np.intp]) -> Reliability:
    return reliability_of(records.score[places], records.hits[0, places])


def reliability_of(scores: NDArray[Any], right: NDArray[np.bool_]) -> Reliability:
    """Return scores, or probabilities, beside the share that is right.

    Args:
        scores: float (n,), 0..1.
        right: bool (n,).
    """
    bins = np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    boxes = np.bincount(bins, minlength=SCORE_BINS)
    means, shares = (np.bincount(bins, values, SCORE_BINS) / np.maximum(boxes, 1) for values in (scores, right))
    error = float((boxes * abs(means - shares)).sum() / len(scores)) if len(scores) else None
    return Reliability(tuple(boxes.tolist()), tuple(_known(means, boxes)), tuple(_known(shares, boxes)), error)


def _known(values: NDArray[np.float64], boxes: NDArray[np.int64]) -> Iterator[float | None]:
    return (float(value) if count else None for value, count in zip(values, boxes, strict=True))


def doubt_of(counts: NDArray[np.int64]) -> Doubt:
    """Return what an uncertainty says about wrong pixels.

    Args:
        counts: Wrong and right pixels by the bin of their uncertainty, (2, bins), the most certain first.
    """
    wrong, right = counts.astype(np.float64)
    every = wrong + right
    used = every > 0
    if not used.any():
        return Doubt(None, (), ())
    auroc = None
    if wrong.sum() and right.sum():
        below = np.concatenate([[0.0], np.cumsum(right)[:-1]])
        auroc = float((wrong * (below + right / 2)).sum() / (wrong.sum() * right.sum()))
    so_far = np.cumsum(every)
    kept, risk = so_far[used] / every.sum(), np.cumsum(wrong)[used] / so_far[used]
    return Doubt(auroc, tuple(kept.tolist()), tuple(risk.tolist()))
