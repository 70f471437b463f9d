"""Figures of networks in conditions: curves over severities, and one number of robustness, with intervals.

A severity keeps a share of the clean score: the score of the changed frames divided by that of the clean ones. The
robustness of a condition is the mean of these shares over its severities, as in Michaelis et al., 2019. Numerator and
denominator are means over the classes that both have, on the same resample of the frames. A class that leaves the
picture with a change of the view therefore changes neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.conditions.condition import Condition
from training.evaluation.bootstrap import Values, average_precisions, frame_weights, iou_values, mean_of
from training.evaluation.frame_records import FrameRecords
from training.evaluation.score_figures import AP50, MIOU, Figure, figure_of

HALF = 0.5


@dataclass(frozen=True)
class Curve:
    """A mean of one network over the severities of a condition.

    Attributes:
        scores: The mean, 0..1, on clean frames and at each severity, with its difference to clean.
        kept: Share of the clean score at each severity, 0 and up.
        robustness: Mean of `kept` over the severities.
        classes: The score of each class on clean frames and at each severity, by its name; None where there is none.
    """

    scores: tuple[Figure, ...]
    kept: tuple[Figure, ...]
    robustness: Figure
    classes: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class ConditionFigures:
    """A condition of one network.

    Attributes:
        name: Name of the condition.
        family: Its family.
        words: What happens to a frame.
        parameter: What `values` are, with their unit.
        values: Value of each severity that was measured.
        severities: These severities, 1..5.
        source: Where the formula comes from.
        frames: Which set of frames: a key of `Robustness.frames`.
        curves: `miou` and `ap50`, those that network and labels have.
    """

    name: str
    family: str
    words: str
    parameter: str
    values: tuple[float, ...]
    severities: tuple[int, ...]
    source: str
    frames: str
    curves: dict[str, Curve]


@dataclass(frozen=True)
class NetworkFigures:
    """One network.

    Attributes:
        name: Name of the row.
        file: Name of the file.
        sha256: Hex digest of the file.
        conditions: Its conditions.
        families: Mean of the robustness over the conditions of a family, by family and `miou` or `ap50`.
        overall: Mean of the robustness over all conditions, by `miou` or `ap50`.
    """

    name: str
    file: str
    sha256: str
    conditions: tuple[ConditionFigures, ...]
    families: dict[str, dict[str, Figure]]
    overall: dict[str, Figure]


@dataclass(frozen=True)
class Robustness:
    """What was measured.

    Attributes:
        networks: The networks.
        frames: What each set of frames is, by its key.
        left_out: Sentences about conditions that were not measured.
        resamples: Number of resamples behind an interval.
    """

    networks: tuple[NetworkFigures, ...]
    frames: dict[str, str]
    left_out: tuple[str, ...]
    resamples: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class MeasuredCondition:
    """What a network perceived in a condition.

    Attributes:
        condition: The condition.
        frames: Which set of frames.
        clean: Records of the clean frames.
        changed: Records by severity.
    """

    condition: Condition
    frames: str
    clean: FrameRecords
    changed: Mapping[int, FrameRecords]


def network_figures(name: str, file: str, sha256: str, measured: Sequence[MeasuredCondition]) -> NetworkFigures:
    """Return the figures of one network.

    Args:
        name: Name of the row.
        file: Name of the file.
        sha256: Hex digest of the file.
        measured: What it perceived; at least one condition.
    """
    clean: dict[str, _Scores] = {}
    found, families, overall = [], dict[str, _Means](), _Means()
    for each in measured:
        if each.frames not in clean:
            # Means over conditions of several sets: equal draws would tie frames together that have nothing in common.
            clean[each.frames] = _Scores(each.clean, seed=len(clean))
        curves = {}
        for mean, curve, robustness in _curves(each, clean[each.frames]):
            curves[mean] = curve
            families.setdefault(each.condition.family, _Means()).add(mean, robustness, each.clean.frames)
            overall.add(mean, robustness, each.clean.frames)
        found.append(_of_condition(each, curves))
    by_family = {family: means.figures() for family, means in families.items()}
    return NetworkFigures(name, file, sha256, tuple(found), by_family, overall.figures())


@dataclass(frozen=True)
class _ClassScores:
    """A score of each class on one set of frames.

    Attributes:
        classes: Names of the classes.
        values: (1 + resamples, classes).
        of_present: Values without those of classes that the labels of the frames do not have. A class that is not there
            has an IoU of 0 as soon as a pixel is taken for it.
    """

    classes: list[str]
    values: NDArray[np.float64]
    of_present: NDArray[np.float64]


class _Scores:
    """Scores of one set of frames by mean, on resamples of a seed."""

    def __init__(self, records: FrameRecords, seed: int) -> None:
        self.seed = seed
        weights = frame_weights(records.frames, seed=seed)
        self.by_mean: dict[str, _ClassScores] = {}
        if len(records.mask_classes):
            values = iou_values(records, weights)
            present = weights @ records.confusion.sum(axis=2, dtype=np.int64) > 0
            self.by_mean[MIOU] = _ClassScores(records.mask_classes.tolist(), values, np.where(present, values, np.nan))
        if len(records.box_classes):
            precisions = average_precisions(records, weights, thresholds=1)[:, 0]  # NaN without true boxes
            self.by_mean[AP50] = _ClassScores(records.box_classes.tolist(), precisions, precisions)


class _Means:
    """Values to take the mean of, by `miou` or `ap50`."""

    def __init__(self) -> None:
        self._values: dict[str, list[Values]] = {}
        self._frames: list[int] = []

    def add(self, mean: str, values: Values, frames: int) -> None:
        self._values.setdefault(mean, []).append(values)
        self._frames.append(frames)

    def figures(self) -> dict[str, Figure]:
        return {mean: figure_of(_mean(values), None, min(self._frames)) for mean, values in self._values.items()}


def _curves(measured: MeasuredCondition, clean: _Scores) -> list[tuple[str, Curve, Values]]:
    """Return each mean that clean frames yield, with its curve and the values of its robustness."""
    changed = [_Scores(records, clean.seed) for records in measured.changed.values()]
    frames, found = measured.clean.frames, []
    for mean, at_first in clean.by_mean.items():
        if not np.isfinite(at_first.values[0]).any():
            continue
        at = [at_first, *(each.by_mean[mean] for each in changed)]
        means = [mean_of(each.values) for each in at]
        kept = [_kept(at_first.of_present, each.of_present) for each in at[1:]]
        robustness = _mean(kept)
        curve = Curve(
            tuple(figure_of(each, means[0] if place else None, frames) for place, each in enumerate(means)),
            tuple(figure_of(each, None, frames) for each in kept),
            figure_of(robustness, None, frames),
            {name: tuple(_number(each.values[0, place]) for each in at) for place, name in enumerate(at_first.classes)},
        )
        found.append((mean, curve, robustness))
    return found


def _kept(clean: NDArray[np.float64], changed: NDArray[np.float64]) -> Values:
    """Return the share of the clean score that is left on each resample; NaN where there is no clean score."""
    both = np.isfinite(clean) & np.isfinite(changed)
    before, after = (mean_of(np.where(both, each, np.nan)) for each in (clean, changed))
    kept: Values = np.divide(after, before, out=np.full(before.shape, np.nan), where=before > 0)
    return kept


def _mean(values: Sequence[Values]) -> Values:
    return mean_of(np.stack(values, axis=-1))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _of_condition(measured: MeasuredCondition, curves: dict[str, Curve]) -> ConditionFigures:
    condition, severities = measured.condition, tuple(measured.changed)
    return ConditionFigures(
        condition.name,
        condition.family,
        condition.words,
        condition.parameter,
        tuple(condition.value(severity) for severity in severities),
        severities,
        condition.source,
        measured.frames,
        curves,
    )
