"""Statistics over seeds: means, deviations, confidence intervals, and whether a difference is beyond the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from training.evaluation.bootstrap import CONFIDENCE


@dataclass(frozen=True)
class Spread:
    """One figure over seeds: mean, standard deviation (NaN for one seed), and values by seed."""

    mean: float
    deviation: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """Candidate minus baseline, seed by seed.

    Attributes:
        mean: Mean of the differences.
        low, high: Ends of the confidence interval of the mean (Student's t); NaN for one seed.
        recovered: Share of the gap between baseline and teacher; NaN without a teacher, or if it is not ahead.
    """

    mean: float
    low: float
    high: float
    recovered: float

    def verdict(self) -> str:
        """Return the result in one line."""
        if math.isnan(self.low):
            return "one seed: this says nothing about the noise"
        if self.high < 0:
            return "WARNING: worse than the baseline, beyond the noise"
        if self.low > 0:
            return "better than the baseline, beyond the noise"
        return "WARNING: within the noise"


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation (n - 1) of one figure over seeds."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Spread(float(np.mean(values)), deviation, tuple(values))


def difference(candidate: Spread, baseline: Spread, teacher: float | None) -> Difference:
    """Compare values of the same seeds in the same order as pairs, so that the effect of a seed cancels out.

    Raises:
        ValueError: The numbers of seeds differ.
    """
    if len(candidate.values) != len(baseline.values):
        raise ValueError(f"expected the same number of seeds, got {len(candidate.values)} and {len(baseline.values)}")
    pairs = np.subtract(candidate.values, baseline.values)
    mean = float(pairs.mean())
    half = math.nan
    if len(pairs) > 1:
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1))
        half = quantile * float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    gap = math.nan if teacher is None else teacher - baseline.mean
    return Difference(mean, mean - half, mean + half, mean / gap if gap > 0 else math.nan)
