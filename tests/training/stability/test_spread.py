"""Test intervals of shares over time: they cover what varies, and tell a steadier network from chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.score_figures import BETTER, NOISE, TOO_FEW, WORSE
from training.stability.objects import SeenObject, lost_by_pair
from training.stability.spread import PairCounts, Spread, stretches

NAME = "flicker"
PIXELS = 1000.0


def spread_of(shares: np.ndarray, rate_hz: float = 10.0) -> Spread:
    counts = PairCounts.of([(float(share * PIXELS), PIXELS) for share in shares])
    return Spread.of({NAME: counts}, stretches([len(shares)], rate_hz))


def drawn(mean: float, pairs: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.01, pairs).clip(0, 1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pairs=st.integers(50, 200))
def test_the_interval_holds_the_share(seed: int, pairs: int) -> None:
    shares = drawn(0.05, pairs, seed)
    spread = spread_of(shares)

    assert spread.shares[NAME][0] == pytest.approx(shares.mean())
    low, high = spread.interval(NAME) or (1, 0)
    assert low <= shares.mean() <= high
    assert high - low < 0.02


def test_a_steadier_network_is_told_from_chance() -> None:
    hardness = drawn(0.05, 100, 1)  # of the moments: it cancels out
    noise = np.random.default_rng(2).normal(0, 0.002, 100)
    first, alike, steadier = spread_of(hardness), spread_of(hardness + noise - noise.mean()), spread_of(0.8 * hardness)

    verdicts = {name: each.difference(first, NAME) for name, each in (("alike", alike), ("steadier", steadier))}

    assert verdicts["alike"] is not None
    assert verdicts["alike"].verdict == NOISE
    assert verdicts["steadier"] is not None
    assert verdicts["steadier"].verdict == BETTER
    assert verdicts["steadier"].value == pytest.approx(-0.2 * hardness.mean())
    worse = first.difference(steadier, NAME)
    assert worse is not None
    assert worse.verdict == WORSE


def test_a_network_does_not_differ_from_itself() -> None:
    spread = spread_of(drawn(0.05, 100, 3))
    same = spread.difference(spread, NAME)
    assert same is not None
    assert (same.value, same.low, same.high, same.verdict) == (0, 0, 0, NOISE)


def test_few_stretches_have_no_interval() -> None:
    few, other = spread_of(drawn(0.05, 40, 4)), spread_of(drawn(0.09, 40, 4))
    assert few.interval(NAME) is None
    apart = other.difference(few, NAME)
    assert apart is not None
    assert (apart.low, apart.high, apart.verdict) == (None, None, TOO_FEW)
    assert few.difference(spread_of(drawn(0.05, 40, 4)), "lost_objects") is None


def test_pairs_that_resemble_their_neighbours_give_wider_intervals() -> None:
    slow = np.repeat(drawn(0.05, 10, 5), 10)  # ten seconds, each of one kind
    by_second, by_pair = spread_of(slow, 10.0).interval(NAME), spread_of(slow, 1.0).interval(NAME)
    assert by_second is not None
    assert by_pair is not None
    assert by_second[1] - by_second[0] > 2 * (by_pair[1] - by_pair[0])


def test_a_stretch_is_a_second_of_one_sequence() -> None:
    assert stretches([3, 2], 2.0) == ["0 0", "0 0", "0 1", "1 0", "1 0"]
    assert stretches([12], None) == ["0 0"] * 10 + ["0 1"] * 2
    assert stretches([2], 0.5) == ["0 0", "0 1"]


def test_losses_are_counted_pair_by_pair() -> None:
    box = np.array([10, 10, 50, 60], np.float32)
    found, missed = SeenObject(box, box), SeenObject(box, None)
    drives = [[{1: found, 2: found}, {1: found, 2: missed}, {1: missed, 2: found}], [{1: missed}, {1: found}]]
    assert lost_by_pair(drives, 24) == [(1, 2), (1, 1), (0, 0)]
    assert lost_by_pair(drives, 100) == [(0, 0)] * 3
