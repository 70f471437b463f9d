"""best_pairs: the sum of its pairs is the largest possible, which trying all of them shows for small tables."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ros_kd_perception.tracking.assignment import best_pairs

SIDES = st.integers(0, 6)
TABLES = st.tuples(SIDES, SIDES).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([-1.0, 0.0]) | st.floats(-0.5, 1.0, width=16))
)


def largest_sum(weights: np.ndarray) -> float:
    table = np.maximum(weights if weights.shape[0] <= weights.shape[1] else weights.T, 0.0)
    rows = range(len(table))
    choices = permutations(range(table.shape[1]), len(table))
    return max(sum(table[row, column] for row, column in zip(rows, choice, strict=True)) for choice in choices)


@given(TABLES)
@settings(max_examples=300, deadline=None)
def test_no_other_pairs_have_a_larger_sum(weights: np.ndarray) -> None:
    rows, columns = best_pairs(weights)

    assert len(set(rows.tolist())) == len(rows) == len(columns) == len(set(columns.tolist()))
    assert rows.tolist() == sorted(rows)
    assert (weights[rows, columns] > 0).all()
    assert weights[rows, columns].sum() == pytest.approx(largest_sum(weights), abs=1e-9)


def test_a_greedy_choice_would_leave_two_without_a_partner() -> None:
    rows, columns = best_pairs(np.array([[0.6, 0.55], [0.5, 0.0]]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_large_tables_agree_with_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    random = np.random.default_rng(3)
    for shape in ((40, 60), (60, 40), (50, 50)):
        weights = random.uniform(0.01, 1.0, shape)
        expected = weights[optimize.linear_sum_assignment(weights, maximize=True)].sum()
        assert weights[best_pairs(weights)].sum() == pytest.approx(expected)
