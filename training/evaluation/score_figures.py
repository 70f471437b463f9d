"""Figures of files on one set of frames, with intervals, and what a file lost or gained against its parent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import (
    CONFIDENCE,
    Values,
    average_precisions,
    average_precisions_of_size,
    average_recalls,
    boundary_iou_values,
    frame_weights,
    frequency_weighted_iou,
    iou_values,
    mean_of,
    pixel_accuracies,
)
from training.evaluation.box_matching import BOX_SIZES
from training.evaluation.frame_records import FrameRecords

MIOU, AP, AP50 = ("miou", "ap", "ap50")
ACCURACY, WEIGHTED_IOU, BOUNDARY_IOU, AR = ("pixel_accuracy", "frequency_weighted_iou", "boundary_iou", "ar")
AP_OF_SIZE = {size: f"ap_{size}" for size in BOX_SIZES}
MEANS = (MIOU, ACCURACY, WEIGHTED_IOU, BOUNDARY_IOU, AP, AP50, AR, *AP_OF_SIZE.values())
"""The figures of a whole set of frames."""
BETTER, WORSE, NOISE = "better", "worse", "within the noise"
TOO_FEW = "too few frames to say"
NO_INTERVAL = "no interval"
# The interval of fewer frames or drives is so much too narrow that it would say more than they do.
UNITS_MIN = 5
IOU_OF_CLASS, BOUNDARY_OF_CLASS, AP_OF_CLASS, AP50_OF_CLASS = BY_CLASS = (
    "iou of a class",
    "boundary iou of a class",
    "ap of a class",
    "ap50 of a class",
)


@dataclass(frozen=True)
class Difference:
    """A figure of a file minus that of the parent, on the same frames.

    Attributes:
        value: On all frames.
        low, high: Ends of its 95 % interval; None for fewer frames than UNITS_MIN.
        verdict: BETTER, WORSE, NOISE, TOO_FEW or NO_INTERVAL.
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
        low, high: Ends of its 95 % interval; None without a value or for fewer frames than UNITS_MIN.
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
        means: Figures of all classes, by the names of MEANS. `ap` is the mean over IoU 0.5..0.95. `boundary_iou` is the
            mean over classes. Those of boxes of one size have no intervals.
        iou, boundary_iou, ap, ap50: Figures of each class, by its name.
        agreement: Share of the class map that is equal to the parent's, 0..1; None if they cannot be compared.
    """

    frames: int
    means: dict[str, Figure]
    iou: dict[str, Figure]
    boundary_iou: dict[str, Figure]
    ap: dict[str, Figure]
    ap50: dict[str, Figure]
    agreement: float | None


def score_figures(records: Mapping[str, FrameRecords], groups: Sequence[str] | None = None) -> dict[str, ScoreFigures]:
    """Return the figures of files on one set of frames, by the name of their row.

    Means over classes are those of the classes that all files have, by name, so that they can be compared.

    Args:
        records: What each file perceived on the same frames. The first is the parent.
        groups: Group of each frame, for example its drive, see `frame_weights`. None = frames are drawn one by one.
    """
    parent = next(iter(records.values()))
    weights = frame_weights(parent.frames, groups=groups)
    units = parent.frames if groups is None else len(set(groups))
    masks, boxes = (
        shared_classes([each.mask_classes for each in records.values()]),
        shared_classes([each.box_classes for each in records.values()]),
    )
    values_of_parent = _values(parent, weights, masks, boxes)
    found = {}
    for name, each in records.items():
        values = values_of_parent if each is parent else _values(each, weights, masks, boxes)
        beside = {} if each is parent else values_of_parent
        if not np.array_equal(each.mask_classes, parent.mask_classes):
            beside = {key: value for key, value in beside.items() if key[0] not in (ACCURACY, WEIGHTED_IOU)}
        figures = {key: figure_of(value, beside.get(key), units) for key, value in values.items()}
        iou, outlines, ap, ap50 = (
            {label: figure for (of, label), figure in figures.items() if of == kind} for kind in BY_CLASS
        )
        means = {mean: figures[mean, ""] for mean in MEANS if (mean, "") in figures}
        found[name] = ScoreFigures(each.frames, means, iou, outlines, ap, ap50, each.agreement(parent))
    return found


def shared_classes(names: Iterable[NDArray[np.str_]]) -> list[str]:
    """Return the names that all have, in the order of the first; files without any class do not count."""
    lists = [each.tolist() for each in names if len(each)]
    return [name for name in lists[0] if all(name in other for other in lists[1:])] if lists else []


def _values(
    records: FrameRecords, weights: NDArray[np.int64], masks: Sequence[str], boxes: Sequence[str]
) -> dict[tuple[str, str], Values]:
    """Return each figure by its kind and its class; a mean has no class."""
    found: dict[tuple[str, str], Values] = {}
    if len(records.mask_classes):
        found[ACCURACY, ""] = pixel_accuracies(records, weights)
        found[WEIGHTED_IOU, ""] = frequency_weighted_iou(records, weights)
        kinds = (
            (MIOU, IOU_OF_CLASS, iou_values(records, weights)),
            (BOUNDARY_IOU, BOUNDARY_OF_CLASS, boundary_iou_values(records, weights)),
        )
        for mean, of_class, values in kinds:
            found |= _with_mean(mean, of_class, values, records.mask_classes, masks)
    if len(records.box_classes):
        precisions = average_precisions(records, weights)
        found |= _with_mean(AP, AP_OF_CLASS, precisions.mean(axis=1), records.box_classes, boxes)
        found |= _with_mean(AP50, AP50_OF_CLASS, precisions[:, 0], records.box_classes, boxes)
        places = _places(records.box_classes, boxes)
        found[AR, ""] = mean_of(average_recalls(records, weights)[:, places])
        for size, name in enumerate(AP_OF_SIZE.values()):
            of_size = average_precisions_of_size(records, weights[:1], size).mean(axis=1)
            found[name, ""] = mean_of(of_size[:, places])
    return found


def _with_mean(
    mean: str, of_class: str, values: NDArray[np.float64], names: NDArray[np.str_], shared: Sequence[str]
) -> dict[tuple[str, str], Values]:
    by_class = {(of_class, str(name)): values[:, place] for place, name in enumerate(names)}
    return {(mean, ""): mean_of(values[:, _places(names, shared)]), **by_class}


def _places(names: NDArray[np.str_], shared: Sequence[str]) -> list[int]:
    return [place for place, name in enumerate(names.tolist()) if name in shared]


def figure_of(values: Values, parent: Values | None, units: int) -> Figure:
    """Return a figure with its interval and its difference to a parent.

    Args:
        values: The figure on all frames, then on each resample.
        parent: The same figure of the parent, on the same resamples; None if there is none.
        units: Number of frames, or of drives if whole drives are drawn.
    """
    if not np.isfinite(values[0]):
        return Figure(None, None, None, None)
    known = parent is not None and bool(np.isfinite(parent[0]))
    difference = _difference(values - parent, units) if parent is not None and known else None
    return Figure(float(values[0]), *_interval(values, units), difference)


def _difference(values: Values, units: int) -> Difference:
    low, high = _interval(values, units)
    verdict = TOO_FEW if len(values) > 1 else NO_INTERVAL
    if low is not None and high is not None:
        verdict = BETTER if low > 0 else WORSE if high < 0 else NOISE
    return Difference(float(values[0]), low, high, verdict)


def _interval(values: Values, units: int) -> tuple[float | None, float | None]:
    """Return the ends of the percentile interval over the resamples."""
    resampled = values[1:][np.isfinite(values[1:])]
    if units < UNITS_MIN or not len(resampled):
        return None, None
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)
