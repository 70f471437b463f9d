"""Test what is fitted: known distortions are found again, and nothing is kept that is worse on other frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_records import made_records
from scipy.special import expit, log_softmax

from training.calibration.boxes import ScoredBoxes, ScoreScale, fit_scale
from training.calibration.measure import cost_of
from training.calibration.pixels import Pixels, fit_temperature
from training.evaluation.confidence import reliability_of


def drawn_boxes(scale: float, shift: float, count: int, seed: int) -> ScoredBoxes:
    """Return boxes whose score would mean what it says on this scale."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 1.5, count)
    return ScoredBoxes(expit(logits), random.random(count) < expit(scale * logits + shift))


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.4, 3), shift=st.floats(-2, 2), seed=st.integers(0, 2**32 - 1))
def test_a_known_scale_is_found_and_makes_scores_true(scale: float, shift: float, seed: int) -> None:
    boxes = drawn_boxes(scale, shift, 6000, seed)

    found = fit_scale([boxes])

    assert found.scale == pytest.approx(scale, rel=0.25, abs=0.15)
    assert found.shift == pytest.approx(shift, abs=0.35)
    assert (reliability_of(found.of(boxes.scores), boxes.right).error or 0) < 0.03


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.floats(0.01, 1), min_size=2, max_size=50),
    scale=st.floats(0.05, 12),
    shift=st.floats(-10, 10),
)
def test_a_scale_keeps_order_and_range(scores: list[float], scale: float, shift: float) -> None:
    before = np.sort(np.array(scores))

    after = ScoreScale(scale, shift).of(before)

    assert (np.diff(after) >= 0).all()
    assert ((after >= 0) & (after <= 1)).all()


def test_a_large_set_does_not_outweigh_a_small_one() -> None:
    small, large = drawn_boxes(1, 1.5, 400, 1), drawn_boxes(1, -1.5, 40_000, 2)

    together = fit_scale([small, large])

    assert abs(together.shift) < 0.4
    assert fit_scale([large]).shift < -1.2


def test_few_boxes_that_are_all_right_ask_for_no_scale_without_end() -> None:
    found = fit_scale([ScoredBoxes(np.array([0.5, 0.6, 0.7]), np.array([True, True, True]))])

    assert np.isfinite([found.scale, found.shift]).all()
    assert found.of(np.array([0.6]))[0] < 0.95


def test_boxes_that_count_neither_way_are_left_out() -> None:
    hits, ignored = np.zeros((10, 3), np.bool_), np.zeros((10, 3), np.bool_)
    hits[:, 0], ignored[:, 1] = True, True
    records = made_records(
        1, [], ["first", "second"], 3, hits=hits, ignored=ignored, score=np.array([0.9, 0.8, 0.3]), label=np.zeros(3)
    )

    boxes = ScoredBoxes.of(records, 0)

    assert boxes.scores.tolist() == [0.9, 0.3]
    assert boxes.right.tolist() == [True, False]
    assert not len(ScoredBoxes.of(records, 1).scores)


PIXELS = 50_000  # so many that the error of a right temperature is noise far below the limit


@settings(max_examples=20, deadline=None)
@given(temperature=st.floats(0.3, 4), seed=st.integers(0, 2**32 - 1))
@example(temperature=1.0, seed=246229)
def test_a_known_temperature_is_found(temperature: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    true_logits = random.normal(0, 2, (PIXELS, 5))
    probabilities = np.exp(log_softmax(true_logits, axis=1))
    truth = (probabilities.cumsum(axis=1) < random.random((PIXELS, 1))).sum(axis=1).clip(0, 4)
    pixels = Pixels((true_logits * temperature).astype(np.float32), truth)

    found = fit_temperature({"drawn": pixels})

    assert found == pytest.approx(temperature, rel=0.1)
    assert (pixels.reliability(found).error or 0) < 0.02
    assert pixels.negative_log_likelihood(found) <= pixels.negative_log_likelihood(1.0) + 1e-6


def test_a_class_that_loses_boxes_to_another_is_told() -> None:
    hits = np.zeros((10, 2), np.bool_)
    hits[0] = True
    both = np.array([[2, 1]], np.int32)
    before = made_records(
        1, [], ["first", "second"], 2, hits=hits, true_boxes=both, score=np.array([0.9, 0.8]), label=np.zeros(2, int)
    )
    after = replace(before, label=np.array([0, 1], np.int32))

    assert cost_of({"street": before}, {"street": before}, ["street"]) == ""
    assert "AP50 of first on street would fall from 100.0 to 50" in cost_of(
        {"street": before}, {"street": after}, ["street"]
    )
    assert cost_of({"street": after}, {"street": before}, ["street"]).startswith("AP50 of second")
