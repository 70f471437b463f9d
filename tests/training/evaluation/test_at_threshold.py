"""Test the boxes that a vehicle reports: those at the threshold count, and those that count neither way do not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import made_records

from training.evaluation.at_threshold import reported_boxes


def test_boxes_below_the_threshold_and_ignored_ones_do_not_count() -> None:
    hits, ignored = np.zeros((10, 5), np.bool_), np.zeros((10, 5), np.bool_)
    hits[0, [0, 1]], ignored[0, 3] = True, True
    records = made_records(
        1, [], ["first", "second", "third"], 5, hits=hits, ignored=ignored,
        score=np.array([0.9, 0.2, 0.3, 0.8, 0.7]), label=np.array([0, 0, 0, 0, 1]),
        true_boxes=np.array([[4, 0, 2]], np.int32),
    )  # fmt: skip

    found = reported_boxes(records, 0.3)

    assert list(found) == ["first", "third"], "a class without objects is left out"
    assert (found["first"].boxes, found["first"].right, found["first"].objects) == (2, 1, 4)
    assert (found["first"].precision, found["first"].recall) == (0.5, 0.25)
    assert (found["third"].precision, found["third"].recall) == (None, 0.0)
    assert found["first"].to_json()["recall"] == 0.25


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_threshold_finds_no_more(seed: int, low: float, high: float) -> None:
    rng = np.random.default_rng(seed)
    hits = np.repeat(rng.random((1, 30)) < 0.5, 10, axis=0)
    records = made_records(
        1, [], ["first"], 30, hits=hits, score=rng.random(30), label=np.zeros(30, int),
        true_boxes=np.array([[20]], np.int32),
    )  # fmt: skip
    more, fewer = (reported_boxes(records, each)["first"] for each in sorted((low, high)))
    assert fewer.boxes <= more.boxes
    assert fewer.right <= more.right
