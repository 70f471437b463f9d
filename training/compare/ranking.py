"""Ranks the entries that have teachers by the figures of their students."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from training.compare.statistics import Spread, difference


@dataclass(frozen=True)
class Ranked:
    """The place of an entry.

    Attributes:
        rank: 1 plus the number of entries that are better beyond the noise; with one seed, better at all.
        entry: Its name.
        student: Figure of its students.
        alike: Entries with a higher mean from which it does not differ beyond the noise.
    """

    rank: int
    entry: str
    student: Spread
    alike: tuple[str, ...]


def ranking(students: Mapping[str, Spread]) -> list[Ranked]:
    """Return the places of entries by one figure, the best first.

    Two entries differ beyond the noise if the confidence interval of their difference, over pairs of the same seed,
    does not contain 0.
    """
    ordered = sorted(students, key=lambda entry: -students[entry].mean)
    ranked = []
    for place, entry in enumerate(ordered):
        above = ordered[:place]
        alike = tuple(other for other in above if _within_noise(students[other], students[entry]))
        ranked.append(Ranked(1 + len(above) - len(alike), entry, students[entry], alike))
    return ranked


def _within_noise(better: Spread, worse: Spread) -> bool:
    low = difference(better, worse, None).low
    return not math.isnan(low) and low <= 0
