"""Test what scores and uncertainty are worth, against plain computation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import made_records

from training.evaluation.confidence import LEAST_SCORE, Reliability, confidence_of, doubt_of
from training.evaluation.frame_records import FrameRecords


def records_of(scores: list[float], hits: list[bool], ignored: list[bool] | None = None) -> FrameRecords:
    """Return the records of one frame with boxes of one class, and no masks."""
    count = len(scores)
    right = np.broadcast_to(np.array(hits, np.bool_), (10, count))
    unscored = np.broadcast_to(np.array(ignored or [False] * count, np.bool_), (10, count))
    return made_records(
        1,
        [],
        ["thing"],
        count,
        true_boxes=np.ones((1, 1), np.int32),
        score=np.array(scores),
        hits=right,
        ignored=unscored,
    )


def reliability(*parts: list[float] | list[bool]) -> Reliability:
    found = confidence_of(records_of(*parts)).boxes  # type: ignore[arg-type]
    assert found is not None
    return found


def test_scores_that_hold_have_no_error_and_scores_that_promise_too_much_have_theirs() -> None:
    honest = reliability([0.75] * 4, [True, True, True, False])
    assert honest.error == pytest.approx(0)
    assert honest.right[7] == pytest.approx(0.75)
    assert honest.boxes == (0, 0, 0, 0, 0, 0, 0, 4, 0, 0)
    assert honest.mean_score[0] is None

    boastful = reliability([0.95] * 4, [True, False, False, False])
    assert boastful.error == pytest.approx(0.7)


def test_boxes_that_do_not_count_are_left_out() -> None:
    found = reliability([0.9, 0.9, LEAST_SCORE / 2], [True, False, False], [False, True, False])
    assert sum(found.boxes) == 1
    assert found.error == pytest.approx(0.1)
    assert reliability([], []).error is None


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_auroc_and_risk_are_those_of_a_plain_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, (2, 8))
    found = doubt_of(counts)
    wrong, right = (np.repeat(np.arange(8), row) for row in counts)
    if len(wrong) and len(right):
        pairs = (wrong[:, None] > right[None]) + 0.5 * (wrong[:, None] == right[None])
        assert found.auroc == pytest.approx(pairs.mean())
    else:
        assert found.auroc is None
    for kept, risk in zip(found.kept, found.wrong, strict=True):
        most = np.flatnonzero(np.cumsum(counts.sum(axis=0)) / counts.sum() <= kept + 1e-9)
        part = counts[:, : most[-1] + 1].sum(axis=1)
        assert risk == pytest.approx(part[0] / part.sum())


def test_without_an_uncertainty_nothing_is_said() -> None:
    found = doubt_of(np.zeros((2, 8), np.int64))
    assert (found.auroc, found.kept, found.wrong_of(0.8)) == (None, (), None)


def test_leaving_out_what_is_uncertain_leaves_out_what_is_wrong() -> None:
    found = doubt_of(np.array([[0, 0, 10], [50, 40, 0]]))
    assert found.auroc == pytest.approx(1)
    assert found.wrong_of(1.0) == pytest.approx(0.1)
    assert found.wrong_of(0.9) == 0
