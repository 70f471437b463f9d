"""Thresholds that find a promised share of the true objects, by drives, and the proof on other drives.

Split conformal prediction for recall: the score of the box that finds an object is exchangeable among the objects of a
drive, and an object that no box finds has none (Angelopoulos and Bates, A Gentle Introduction to Conformal Prediction,
2021, section 1; Mondrian by class).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from training.evaluation.box_matching import BOX_SIZES
from training.evaluation.frame_records import FrameRecords


@dataclass(frozen=True)
class FoundObjects:
    """The true objects of a class in a drive or a set.

    Attributes:
        scores: Scores of the boxes that found one, at an IoU of 0.5, in descending order.
        objects: Number of all true objects; those beyond `scores` were not found at any score.
    """

    scores: NDArray[np.float64]
    objects: int

    def share_at(self, threshold: float) -> float:
        """Return the share of the objects that boxes of at least this score find; NaN without objects."""
        return float((self.scores >= threshold).sum() / self.objects) if self.objects else float("nan")

    def threshold(self, coverage: float) -> float | None:
        """Return the highest threshold that promises a share of the objects; None if no threshold does.

        Of n objects, the ceil((n + 1) * coverage)-th best must be found, so that the next one is with this chance.
        """
        rank = ceil((self.objects + 1) * coverage)
        return float(self.scores[rank - 1]) if rank <= len(self.scores) else None


def found_objects(
    records: FrameRecords, label: int, sizes: Sequence[str], frames: NDArray[np.bool_] | None = None
) -> FoundObjects:
    """Return the true objects of a class.

    Args:
        records: Counts of each frame.
        label: The class.
        sizes: Names of `BOX_SIZES` that count.
        frames: bool (frames,), the frames that count; None = all.
    """
    counted = np.ones(records.frames, np.bool_) if frames is None else frames
    if set(sizes) == set(BOX_SIZES):
        hits, objects = records.hits[0], records.true_boxes[counted, label].sum()
    else:
        places = [place for place, name in enumerate(BOX_SIZES) if name in sizes]
        hits = records.hits_by_size[places, 0].any(axis=0)
        objects = records.true_boxes_by_size[places][:, counted, label].sum()
    chosen = hits & (records.label == label) & counted[records.frame]
    return FoundObjects(np.sort(records.score[chosen])[::-1], int(objects))


def by_drive(
    records: FrameRecords, label: int, sizes: Sequence[str], drives: Sequence[str], least: int
) -> dict[str, FoundObjects]:
    """Return the true objects of a class by drive.

    Args:
        records: Counts of each frame.
        label: The class.
        sizes: Names of `BOX_SIZES` that count.
        drives: Drive of each frame.
        least: Drives with fewer objects are taken together, under the name "".
    """
    names = np.array(drives)
    each = {name: found_objects(records, label, sizes, names == name) for name in dict.fromkeys(drives)}
    large = {name: found for name, found in each.items() if found.objects >= least}
    rest = found_objects(records, label, sizes, ~np.isin(names, list(large)))
    return large | ({"": rest} if rest.objects >= least else {})


@dataclass(frozen=True)
class Promise:
    """The threshold of a class, and what became of its promise.

    Attributes:
        threshold: The lowest among the drives of the fit; None if a drive has none, or there are too few objects.
        drives: Threshold of each drive of the fit; None for one in which too few objects were found at any score.
        checked: Share that the threshold finds on each set of the check that has enough objects.
        most: Share that is found there at any score: no threshold finds more.
        broken: Names of the sets on which it finds less than was promised, less the tolerance.
    """

    threshold: float | None
    drives: Mapping[str, float | None]
    checked: Mapping[str, float]
    most: Mapping[str, float]
    broken: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether there is a threshold that was checked on a set and broken on none."""
        return self.threshold is not None and bool(self.checked) and not self.broken


def promise_of(
    drives: Mapping[str, FoundObjects],
    checks: Mapping[str, FoundObjects],
    coverage: float,
    tolerance: float,
    least: int,
) -> Promise:
    """Return the threshold of a class.

    Args:
        drives: Its true objects in each drive of the fit; each has enough.
        checks: Those of each set of the check.
        coverage: Share that is promised, 0..1.
        tolerance: By how much less a set of the check may have.
        least: A set with fewer objects says nothing.
    """
    by_drive = {name: found.threshold(coverage) for name, found in drives.items()}
    known = [value for value in by_drive.values() if value is not None]
    threshold = min(known) if known and len(known) == len(by_drive) else None
    enough = {name: found for name, found in checks.items() if found.objects >= least}
    most = {name: found.share_at(0.0) for name, found in enough.items()}
    if threshold is None:
        return Promise(None, by_drive, {}, most, ())
    checked = {name: found.share_at(threshold) for name, found in enough.items()}
    broken = tuple(name for name, share in checked.items() if share < coverage - tolerance)
    return Promise(threshold, by_drive, checked, most, broken)
