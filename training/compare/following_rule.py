"""Decides where a student clearly follows the errors of its teachers.

Errors are counted by pairs of classes: the label says one, the teachers say the other. Of the errors of a pair, the
share that the student makes is compared with the share that the baseline makes, which learnt from labels alone. A
student clearly follows its teachers in a pair of classes

- if its share is higher than the baseline's by at least MORE_THAN_BASELINE,
- if, with several seeds, the confidence interval of this difference (pairs of the same seed) is above 0,
- and if the errors that it makes and the baseline does not make are not few: OF_ALL_MIN of all labelled pixels or true
  boxes, or OF_CLASS_MIN of those of the class if these are at least FEW of all; and at least BOXES_MIN boxes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.compare.error_following import NOTHING, ErrorCounts
from training.compare.statistics import Difference, difference, spread

MORE_THAN_BASELINE = 0.2
OF_ALL_MIN = 0.01
OF_CLASS_MIN = 0.25
FEW = 0.001
BOXES_MIN = 3

# By seed, then `student` or `baseline`, then `pixels` or `boxes`.
FollowingOfSeeds = Mapping[int, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Followed:
    """How much of some errors of the teachers a student makes, too.

    Attributes:
        label: Class of the label; empty for all errors together.
        said: Class that the teachers say; empty for all errors together.
        errors: Number of errors of the teachers.
        of_class: Number of labelled pixels, or of true boxes, of the class of the label, or of the class that the
            teachers see where nothing is.
        total: Number of all labelled pixels, or of true boxes.
        student: Share of the errors that the student makes, 0..1, mean over the seeds.
        baseline: Share of the errors that the baseline makes; NaN without a baseline.
        more: Difference of both; NaN without a baseline.
    """

    label: str
    said: str
    errors: int
    of_class: int
    total: int
    student: float
    baseline: float
    more: Difference

    @property
    def taken_over(self) -> float:
        """Number of errors that the student makes and the baseline does not make."""
        return self.errors * self.more.mean

    def is_clear(self, at_least: int) -> bool:
        """Return whether the student clearly follows its teachers, with at least so many errors taken over."""
        enough = max(FEW * self.total, min(OF_ALL_MIN * self.total, OF_CLASS_MIN * self.of_class))
        more = self.more.mean >= MORE_THAN_BASELINE and not self.more.low <= 0
        return more and self.taken_over >= max(enough, at_least)


def followed_errors(found: FollowingOfSeeds, task: str) -> list[Followed]:
    """Return the errors of a task: all together first, then each pair of classes with at least one error.

    Args:
        found: What was counted.
        task: `pixels` or `boxes`.

    Returns:
        Empty if the teachers make no errors.
    """
    by_who: dict[str, list[ErrorCounts]] = {}
    for of_seed in found.values():
        for who, counted in of_seed.items():
            by_who.setdefault(who, []).append(ErrorCounts.of_json(counted[task]))
    first = by_who["student"][0]
    if not first.wrong.any():
        return []
    pairs = [_of_pair(by_who, slice(None), slice(None))]
    return pairs + [_of_pair(by_who, int(row), int(column)) for row, column in np.argwhere(first.wrong)]


def _of_pair(by_who: Mapping[str, list[ErrorCounts]], row: int | slice, column: int | slice) -> Followed:
    shares = {
        who: spread([float(each.followed[row, column].sum() / each.wrong[row, column].sum()) for each in counts])
        for who, counts in by_who.items()
    }
    student, baseline = shares["student"], shares.get("baseline")
    nan = math.nan
    first = by_who["student"][0]
    label, said = ("" if isinstance(place, slice) else first.names[place] for place in (row, column))
    return Followed(
        label=label,
        said=said,
        errors=int(first.wrong[row, column].sum()),
        of_class=int(first.labelled[column if label == NOTHING else row].sum()),
        total=int(first.labelled.sum()),
        student=student.mean,
        baseline=nan if baseline is None else baseline.mean,
        more=Difference(nan, nan, nan, nan) if baseline is None else difference(student, baseline, None),
    )


def clear_pairs(followed: list[Followed], task: str) -> list[Followed]:
    """Return the pairs of classes in which a student clearly follows its teachers, those with most errors first."""
    clear = [pair for pair in followed[1:] if pair.is_clear(BOXES_MIN if task == "boxes" else 1)]
    return sorted(clear, key=lambda pair: -pair.taken_over)
