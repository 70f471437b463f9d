"""What several seeds say about two ways of training: means, spreads, intervals, and whether a difference is real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Of one figure over seeds: mean, standard deviation (NaN for one seed), values by seed."""

    mean: float
    deviation: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """Candidate minus baseline, seed by seed.

    Attributes:
        mean: of the differences.
        low, high: ends of the confidence interval of the mean (Student's t); NaN for one seed.
        recovered: share of the gap between baseline and teacher; NaN where there is no teacher or it is not ahead.
    """

    mean: float
    low: float
    high: float
    recovered: float

    def verdict(self) -> str:
        """One line for those who read nothing else."""
        if math.isnan(self.low):
            return "one seed: this says nothing about the noise"
        if self.high < 0:
            return "WARNING: worse than the baseline, beyond the noise"
        if self.low > 0:
            return "better than the baseline, beyond the noise"
        return "WARNING: within the noise"


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation (n - 1) of one figure over seeds."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Spread(float(np.mean(values)), deviation, tuple(values))


def difference(candidate: Spread, baseline: Spread, teacher: float | None) -> Difference:
    """Compare values of the same seeds in the same order, as pairs: what a seed does to both cancels out.

    Raises:
        ValueError: different numbers of seeds.
    """
    if len(candidate.values) != len(baseline.values):
        raise ValueError(f"expected as many seeds of both, got {len(candidate.values)} and {len(baseline.values)}")
    pairs = np.subtract(candidate.values, baseline.values)
    mean = float(pairs.mean())
    half = math.nan
    if len(pairs) > 1:
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1))
        half = quantile * float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    gap = math.nan if teacher is None else teacher - baseline.mean
    return Difference(mean, mean - half, mean + half, mean / gap if gap > 0 else math.nan)
