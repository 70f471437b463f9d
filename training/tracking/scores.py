"""HOTA and IDF1: how well ids of boxes stay with their objects.

HOTA is the formula of Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking" (IJCV 2021).
IDF1 is that of Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking" (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.tracking.assignment import best_pairs

ALPHAS = np.arange(1, 20) * 0.05
"""Overlaps from which on a box counts as that of an object; HOTA is the mean over them."""
IDENTITY_OVERLAP = 0.5
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ScoredFrame:
    """True objects and boxes of a tracker in one frame.

    Attributes:
        true_ids: int64 `[n]`, ids of the objects, each once.
        found_ids: int64 `[m]`, ids of the boxes, each once.
        overlaps: float64 `[n, m]`, IoU; 0 for pairs of different classes.
    """

    true_ids: NDArray[np.int64]
    found_ids: NDArray[np.int64]
    overlaps: NDArray[np.float64]


@dataclass
class TrackingScores:
    """Counts of one or more drives, from which the figures follow.

    Attributes:
        true_count: Sights of true objects.
        found_count: Boxes with ids.
        pairs: float64 `[19]`, for each alpha, boxes that are on an object.
        association: float64 `[19]`, sum over these pairs of the share of frames in which the two belong together.
        identities: Sights that the best one-to-one choice of ids for objects gets right.
        switches: How often an object that was found got another id than before.
    """

    true_count: int = 0
    found_count: int = 0
    pairs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(ALPHAS)))
    association: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(ALPHAS)))
    identities: int = 0
    switches: int = 0

    def __add__(self, other: TrackingScores) -> TrackingScores:
        return TrackingScores(
            self.true_count + other.true_count,
            self.found_count + other.found_count,
            self.pairs + other.pairs,
            self.association + other.association,
            self.identities + other.identities,
            self.switches + other.switches,
        )

    @property
    def hota(self) -> float | None:
        """Root of detection times association, mean over all alphas, 0..1. None without objects and boxes."""
        if not self.true_count + self.found_count:
            return None
        return float(np.sqrt(self._detections() * self._associations()).mean())

    @property
    def detection(self) -> float | None:
        """DetA: how many boxes and objects have a partner, 0..1."""
        return float(self._detections().mean()) if self.true_count + self.found_count else None

    @property
    def association_accuracy(self) -> float | None:
        """AssA: how well the ids of boxes with a partner fit over time, 0..1."""
        return float(self._associations().mean()) if self.true_count + self.found_count else None

    @property
    def idf1(self) -> float | None:
        """Share of boxes and objects with the right identity, 0..1. None without objects and boxes."""
        total = self.true_count + self.found_count
        return 2 * self.identities / total if total else None

    def _detections(self) -> NDArray[np.float64]:
        return self.pairs / (self.true_count + self.found_count - self.pairs)

    def _associations(self) -> NDArray[np.float64]:
        return self.association / np.maximum(self.pairs, 1.0)

    @classmethod
    def of(cls, frames: Sequence[ScoredFrame]) -> TrackingScores:
        """Return the counts of one drive."""
        numbered = _Numbered.of(frames)
        scores = cls(sum(len(f.true_ids) for f in frames), sum(len(f.found_ids) for f in frames))
        scores.identities = _identities(numbered)
        _count_pairs(numbered, scores)
        return scores


@dataclass(frozen=True)
class _Numbered:
    """Frames with ids that count from 0.

    Attributes:
        frames: For each frame: numbers of the objects, numbers of the ids, overlaps.
        true_sights: float64 `[objects]`, number of frames that show each.
        found_sights: float64 `[ids]`.
    """

    frames: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]
    true_sights: NDArray[np.float64]
    found_sights: NDArray[np.float64]

    @classmethod
    def of(cls, frames: Sequence[ScoredFrame]) -> _Numbered:
        true_ids = np.unique(np.concatenate([np.zeros(0, np.int64), *(f.true_ids for f in frames)]))
        found_ids = np.unique(np.concatenate([np.zeros(0, np.int64), *(f.found_ids for f in frames)]))
        numbered = [
            (np.searchsorted(true_ids, f.true_ids), np.searchsorted(found_ids, f.found_ids), f.overlaps) for f in frames
        ]
        true_sights, found_sights = np.zeros(len(true_ids)), np.zeros(len(found_ids))
        for true, found, _ in numbered:
            true_sights[true] += 1
            found_sights[found] += 1
        return cls(numbered, true_sights, found_sights)

    def table(self) -> NDArray[np.float64]:
        """Return zeros for each object and id."""
        return np.zeros((len(self.true_sights), len(self.found_sights)))


def _identities(numbered: _Numbered) -> int:
    together = numbered.table()
    for true, found, overlaps in numbered.frames:
        together[np.ix_(true, found)] += overlaps >= IDENTITY_OVERLAP - _ROUNDING
    return int(together[best_pairs(together)].sum())


def _count_pairs(numbered: _Numbered, scores: TrackingScores) -> None:
    """Pair boxes with objects, and count. Of several possible pairs, those count that go together in most frames."""
    alignment = _alignment(numbered)
    together = np.zeros((len(ALPHAS), *alignment.shape))
    ids: dict[int, int] = {}
    for true, found, overlaps in numbered.frames:
        rows, columns = best_pairs(alignment[np.ix_(true, found)] * overlaps)
        for place, alpha in enumerate(ALPHAS):
            near = overlaps[rows, columns] >= alpha - _ROUNDING
            together[place, true[rows[near]], found[columns[near]]] += 1
        near = overlaps[rows, columns] >= IDENTITY_OVERLAP - _ROUNDING
        for one, other in zip(true[rows[near]].tolist(), found[columns[near]].tolist(), strict=True):
            scores.switches += ids.get(one, other) != other
            ids[one] = other
    sights = numbered.true_sights[:, None] + numbered.found_sights[None, :]
    scores.pairs = together.sum(axis=(1, 2))
    scores.association = (together * together / np.maximum(sights - together, 1.0)).sum(axis=(1, 2))


def _alignment(numbered: _Numbered) -> NDArray[np.float64]:
    """Return how well each object and id go together over all frames, 0..1, whatever the overlap counts as."""
    likely = numbered.table()
    for true, found, overlaps in numbered.frames:
        sums = overlaps.sum(axis=0)[None, :] + overlaps.sum(axis=1)[:, None] - overlaps
        likely[np.ix_(true, found)] += np.where(overlaps > 0, overlaps / np.maximum(sums, _ROUNDING), 0.0)
    sights = numbered.true_sights[:, None] + numbered.found_sights[None, :]
    return likely / np.maximum(sights - likely, _ROUNDING)
