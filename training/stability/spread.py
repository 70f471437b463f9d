"""Intervals of shares over time, and whether one network differs from another by more than the choice of moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import CONFIDENCE, frame_weights
from training.evaluation.score_figures import BETTER, NOISE, TOO_FEW, UNITS_MIN, WORSE, Difference

STRETCH_S = 1.0
STRETCH_PAIRS = 10  # where the rate is not known
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class PairCounts:
    """What is counted in each pair of frames; the figure is the share of all parts in all wholes.

    Attributes:
        part, whole: float64 (pairs,).
    """

    part: NDArray[np.float64]
    whole: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[tuple[float, float]]) -> PairCounts:
        """Return the counts of rows of part and whole."""
        part, whole = np.asarray(rows, np.float64).reshape(-1, 2).T
        return cls(part, whole)

    def shares(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share for each row of weights (n, pairs); NaN where nothing is counted."""
        whole = weights @ self.whole
        found: NDArray[np.float64] = np.divide(
            weights @ self.part, whole, out=np.full(len(whole), np.nan), where=whole > 0
        )
        return found


def stretches(pairs_of_sequences: Sequence[int], rate_hz: float | None) -> list[str]:
    """Return the stretch of each pair: a second of one sequence. Neighbouring pairs are too alike to be drawn alone.

    This is the block bootstrap (H. Künsch, The Jackknife and the Bootstrap for General Stationary Observations, Annals
    of Statistics 17, 1989), with blocks that do not overlap.

    Args:
        pairs_of_sequences: Number of pairs in each sequence.
        rate_hz: Frames per second; None takes STRETCH_PAIRS pairs.
    """
    length = STRETCH_PAIRS if rate_hz is None else max(1, round(rate_hz * STRETCH_S))
    return [
        f"{sequence} {number // length}" for sequence, pairs in enumerate(pairs_of_sequences) for number in range(pairs)
    ]


@dataclass(frozen=True)
class Spread:
    """Shares on resampled stretches.

    Attributes:
        shares: Share of all pairs, then of each resample, by name of the figure.
        enough: Whether there are stretches enough for an interval.
    """

    shares: Mapping[str, NDArray[np.float64]]
    enough: bool

    @classmethod
    def of(cls, counts: Mapping[str, PairCounts], stretch_of_pair: Sequence[str]) -> Spread:
        """Resample whole stretches. Networks on the same pairs get the same resamples, so that they can be compared."""
        weights = frame_weights(len(stretch_of_pair), groups=stretch_of_pair)
        shares = {name: each.shares(weights) for name, each in counts.items() if len(each.part) == weights.shape[1]}
        return cls(shares, len(set(stretch_of_pair)) >= UNITS_MIN)

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a figure; None for too few stretches, or if a resample has no share."""
        shares = self.shares.get(name)
        if shares is None or not self.enough or not np.isfinite(shares).all():
            return None
        low, high = np.quantile(shares[1:], TAILS)
        return float(low), float(high)

    def difference(self, other: Spread, name: str) -> Difference | None:
        """Return a figure minus that of another network on the same pairs; None if one has no such figure.

        All of these figures are better the smaller they are.
        """
        if name not in self.shares or name not in other.shares:
            return None
        apart = self.shares[name] - other.shares[name]
        value = float(apart[0])
        if not np.isfinite(value):
            return None
        if not self.enough or not np.isfinite(apart).all():
            return Difference(value, None, None, TOO_FEW)
        low, high = map(float, np.quantile(apart[1:], TAILS))
        return Difference(value, low, high, BETTER if high < 0 else WORSE if low > 0 else NOISE)
