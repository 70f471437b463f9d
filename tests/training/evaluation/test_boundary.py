"""Test the IoU along outlines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.boundary import boundary_counts

ALL = np.ones(3, np.bool_)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_mask_agrees_with_itself_and_labels_that_do_not_count_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 255], size=(40, 60)).astype(np.uint8)
    seen = np.where(truth == 255, rng.integers(0, 3, truth.shape), truth).astype(np.uint8)

    both, either = boundary_counts(seen, truth, ALL, 3).T
    assert (both == either).all()
    swapped = boundary_counts(truth, seen, ALL, 3)
    assert (swapped[:, 0] <= swapped[:, 1]).all()


def test_a_square_that_is_one_pixel_off_loses_little_iou_and_much_of_its_outline() -> None:
    truth = np.zeros((200, 200), np.uint8)  # the outline is one pixel wide: 0.5 % of 283 pixels
    truth[50:150, 50:150] = 1
    seen = np.roll(truth, 1, axis=1)

    both, either = boundary_counts(seen, truth, ALL, 3)[1]
    outline = 4 * 99
    # The upper and lower sides share 99 of 100 pixels each, the left and right sides only their ends.
    assert (both, either) == (2 * 99, 2 * outline - 2 * 99)
    assert both / either < 0.4 < 99 / 101


def test_the_border_of_the_image_is_no_outline_and_a_class_without_labels_counts_nothing() -> None:
    everything = np.ones((30, 40), np.uint8)
    assert not boundary_counts(everything, everything, ALL, 3).any()
    half = everything.copy()
    half[:, 20:] = 2
    counts = boundary_counts(half, half, np.array([True, True, False]), 3)
    assert counts[1].tolist() == [30, 30]
    assert counts[2].tolist() == [0, 0]


def test_a_thin_line_is_all_outline() -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[:, 40] = 1
    seen = np.zeros_like(truth)
    seen[:50, 40] = 1
    both, either = boundary_counts(seen, truth, ALL, 3)[1]
    assert both / either == pytest.approx(0.5)
