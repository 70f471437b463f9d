"""Test the histograms of activations against ranges that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.quantization.ranges import BINS, Histogram, TensorRange


def histogram_of(values: np.ndarray) -> Histogram:
    found = Histogram(float(values.min()), float(values.max()))
    for part in np.array_split(values.astype(np.float32), 3):
        found.add(part)
    return found


def test_a_percentile_cuts_off_as_much_below_as_above() -> None:
    found = histogram_of(np.linspace(-1, 3, 100_001)).percentile(90)

    bin_width = 4 / BINS
    assert found.lowest == pytest.approx(-0.8, abs=2 * bin_width)
    assert found.highest == pytest.approx(2.8, abs=2 * bin_width)


def test_entropy_gives_up_single_large_values() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.abs(rng.normal(0, 1, 200_000)), np.zeros(200_000), [20.0]])

    found = histogram_of(values).least_entropy_lost()
    assert found.lowest == 0
    assert 2.5 < found.highest < 8


def test_entropy_keeps_values_that_are_spread_evenly() -> None:
    values = np.random.default_rng(0).uniform(0, 10, 200_000)

    assert histogram_of(values).least_entropy_lost().highest == pytest.approx(10, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40), st.floats(90, 99.999))
def test_a_range_lies_within_the_values(values: list[float], percent: float) -> None:
    array = np.array(values, np.float32)
    slack = 1e-3 * max(1.0, float(np.abs(array).max()))

    for found in (histogram_of(array).percentile(percent), histogram_of(array).least_entropy_lost()):
        assert array.min() - slack <= found.lowest <= found.highest <= array.max() + slack


@pytest.mark.parametrize(("lowest", "highest"), [(1, 0), (float("nan"), 1), (0, float("inf"))])
def test_a_range_that_is_none_is_refused(lowest: float, highest: float) -> None:
    with pytest.raises(ValueError, match="expected a finite range"):
        TensorRange(lowest, highest)
