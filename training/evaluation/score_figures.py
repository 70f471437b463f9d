"""Figures of files on one set of frames, with intervals, and what a file lost or gained against its parent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import (
    CONFIDENCE,
    Values,
    average_precisions,
    frame_weights,
    iou_values,
    mean_of,
)
from training.evaluation.frame_records import FrameRecords

MIOU, AP, AP50 = MEANS = ("miou", "ap", "ap50")
BETTER, WORSE, NOISE = "better", "worse", "within the noise"
TOO_FEW = "too few frames to say"
# The interval of fewer frames is so much too narrow that it would say more than the frames do.
FRAMES_MIN = 5
IOU_OF_CLASS, AP_OF_CLASS, AP50_OF_CLASS = BY_CLASS = ("iou of a class", "ap of a class", "ap50 of a class")


@dataclass(frozen=True)
class Difference:
    """A figure of a file minus that of the parent, on the same frames.

    Attributes:
        value: On all frames.
        low, high: Ends of its 95 % interval; None for fewer frames than FRAMES_MIN.
        verdict: BETTER, WORSE, NOISE or TOO_FEW.
    """

    value: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Figure:
    """A figure of a file on a set of frames, a share 0..1.

    Attributes:
        value: On all frames; None if the labels do not yield it.
        low, high: Ends of its 95 % interval; None without a value or for fewer frames than FRAMES_MIN.
        difference: To the parent; None for the parent itself, and where one of both has no value.
    """

    value: float | None
    low: float | None
    high: float | None
    difference: Difference | None


@dataclass(frozen=True)
class ScoreFigures:
    """The figures of a file on one set of frames. Those of a task that the file does not do are absent.

    Attributes:
        frames: Number of frames.
        means: `miou`, `ap` (mean over IoU 0.5..0.95) and `ap50`.
        iou, ap, ap50: Figures of each class, by its name.
        agreement: Share of the class map that is equal to the parent's, 0..1; None if they cannot be compared.
    """

    frames: int
    means: dict[str, Figure]
    iou: dict[str, Figure]
    ap: dict[str, Figure]
    ap50: dict[str, Figure]
    agreement: float | None


def score_figures(records: Mapping[str, FrameRecords]) -> dict[str, ScoreFigures]:
    """Return the figures of files on one set of frames, by the name of their row.

    Args:
        records: What each file perceived on the same frames. The first is the parent.
    """
    parent = next(iter(records.values()))
    weights = frame_weights(parent.frames)
    values_of_parent = _values(parent, weights)
    found = {}
    for name, each in records.items():
        values = values_of_parent if each is parent else _values(each, weights)
        beside = {} if each is parent else values_of_parent
        figures = {key: figure_of(value, beside.get(key), each.frames) for key, value in values.items()}
        iou, ap, ap50 = ({label: figure for (of, label), figure in figures.items() if of == kind} for kind in BY_CLASS)
        means = {mean: figures[mean, ""] for mean in MEANS if (mean, "") in figures}
        found[name] = ScoreFigures(each.frames, means, iou, ap, ap50, each.agreement(parent))
    return found


def _values(records: FrameRecords, weights: NDArray[np.int64]) -> dict[tuple[str, str], Values]:
    """Return each figure by its kind and its class; a mean has no class."""
    found: dict[tuple[str, str], Values] = {}
    if len(records.mask_classes):
        iou = iou_values(records, weights)
        found[MIOU, ""] = mean_of(iou)
        found |= {(IOU_OF_CLASS, str(name)): iou[:, place] for place, name in enumerate(records.mask_classes)}
    if len(records.box_classes):
        precisions = average_precisions(records, weights)
        kinds = ((AP, AP_OF_CLASS, precisions), (AP50, AP50_OF_CLASS, precisions[:, :1]))
        for mean, of_class, chosen in kinds:
            by_class = chosen.mean(axis=1)
            found[mean, ""] = mean_of(by_class)
            found |= {(of_class, str(name)): by_class[:, place] for place, name in enumerate(records.box_classes)}
    return found


def figure_of(values: Values, parent: Values | None, frames: int) -> Figure:
    """Return a figure with its interval and its difference to a parent.

    Args:
        values: The figure on all frames, then on each resample.
        parent: The same figure of the parent, on the same resamples; None if there is none.
        frames: Number of frames.
    """
    if not np.isfinite(values[0]):
        return Figure(None, None, None, None)
    known = parent is not None and bool(np.isfinite(parent[0]))
    difference = _difference(values - parent, frames) if parent is not None and known else None
    return Figure(float(values[0]), *_interval(values, frames), difference)


def _difference(values: Values, frames: int) -> Difference:
    low, high = _interval(values, frames)
    verdict = TOO_FEW
    if low is not None and high is not None:
        verdict = BETTER if low > 0 else WORSE if high < 0 else NOISE
    return Difference(float(values[0]), low, high, verdict)


def _interval(values: Values, frames: int) -> tuple[float | None, float | None]:
    """Return the ends of the percentile interval over the resamples."""
    resampled = values[1:][np.isfinite(values[1:])]
    if frames < FRAMES_MIN or not len(resampled):
        return None, None
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)
