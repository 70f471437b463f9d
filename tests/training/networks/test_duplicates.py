"""Dropping boxes that repeat a better one: as greedy suppression does, and never two of one object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros_kd_perception.model.boxes import best_of_each_object, iou_xyxy
from training.networks.duplicates import ROUNDS, first_of_each_object


def kept(boxes_xyxy: NDArray[np.float32], labels: NDArray[np.int32], overlap_max: float) -> NDArray[np.bool_]:
    """Return which boxes are kept; the same frame twice, so that a mix of frames would show."""
    boxes, classes = torch.from_numpy(boxes_xyxy)[None], torch.from_numpy(labels)[None]
    both = first_of_each_object(torch.cat([boxes, boxes.flip(1)]), torch.cat([classes, classes.flip(1)]), overlap_max)
    return both[0].numpy() > 0.5


def row_of_boxes(count: int, step_px: float) -> NDArray[np.float32]:
    left = np.arange(count, dtype=np.float32) * step_px
    return np.stack([left, np.zeros(count), left + 100, np.full(count, 100)], axis=1).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), count=st.integers(1, 60), overlap_max=st.floats(0.05, 0.95), spread=st.floats(1, 200)
)
def test_what_is_kept_is_kept_by_greedy_suppression(seed: int, count: int, overlap_max: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, spread, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 80, (count, 2))], axis=1).astype(np.float32)
    labels = rng.integers(0, 3, count).astype(np.int32)
    found = kept(boxes, labels, overlap_max)
    greedy = np.zeros(count, np.bool_)
    greedy[best_of_each_object(boxes, np.linspace(1, 0.5, count, dtype=np.float32), labels, overlap_max)] = True
    assert found[0]
    assert not (found & ~greedy).any()
    iou = np.triu(iou_xyxy(boxes, boxes) > overlap_max + 1e-5, k=1) & (labels[:, None] == labels[None])
    assert not iou[np.ix_(found, found)].any()
    alone = ~iou.any(axis=0)
    assert found[alone & greedy].all()


@pytest.mark.parametrize("count", range(1, ROUNDS + 2))
def test_a_short_chain_is_dropped_as_greedy_suppression_does(count: int) -> None:
    boxes, labels = row_of_boxes(count, 30), np.zeros(count, np.int32)  # neighbours overlap by 0.54, others by less
    assert kept(boxes, labels, 0.5).tolist() == [index % 2 == 0 for index in range(count)]


def test_classes_are_apart_and_empty_boxes_repeat_nothing() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3 + [[5, 5, 5, 5]] * 2, np.float32)
    assert kept(boxes, np.array([0, 1, 0, 0, 0], np.int32), 0.6).tolist() == [True, True, False, True, True]
