"""Test figures of resampled frames against the metrics that the rest of the package reports."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros_kd_perception.structures import Detections
from training.data.labels import EVERY_CLASS
from training.data.sample import Sample
from training.evaluation.bootstrap import average_precisions, frame_weights, iou_values, mean_of
from training.evaluation.box_matching import IOU_THRESHOLDS, match_boxes
from training.evaluation.frame_records import FrameRecords
from training.evaluation.metrics import DetectionMetrics, SegmentationMetrics

CLASSES = 3
MASK_CLASSES = 4
SIDE_PX = 60


def random_boxes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    low = rng.uniform(0, SIDE_PX - 25, (count, 2))
    return np.concatenate([low, low + rng.uniform(5, 25, (count, 2))], axis=1).astype(np.float32)


def random_sample(rng: np.random.Generator) -> Sample:
    """Return a frame with some true boxes, some ignored regions and, at times, a class that is not labelled."""
    boxes, ignored = random_boxes(rng, rng.integers(0, 8)), random_boxes(rng, rng.integers(0, 3))
    labeled = np.array([True, True, bool(rng.integers(0, 4))])
    labels = rng.integers(0, CLASSES, len(boxes))
    kept = labeled[labels]
    return Sample(
        "a",
        np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8),
        rng.choice([*range(MASK_CLASSES), 255], size=(SIDE_PX, SIDE_PX)).astype(np.uint8),
        boxes[kept],
        labels[kept],
        ignored_xyxy=ignored,
        ignored_labels=rng.integers(EVERY_CLASS, CLASSES, len(ignored)),
        labeled_pixels=np.array([True, True, True, bool(rng.integers(0, 2))]),
        labeled_boxes=labeled,
    )


def random_detections(rng: np.random.Generator, sample: Sample) -> Detections:
    """Return boxes near true and ignored ones, some of them twice, and some anywhere."""
    assert sample.ignored_xyxy is not None
    near = np.concatenate([sample.boxes_xyxy, sample.boxes_xyxy, sample.ignored_xyxy])
    near = near + rng.uniform(-3, 3, near.shape).astype(np.float32)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)  # a Perceiver gives no box without an area
    boxes = np.concatenate([near, random_boxes(rng, rng.integers(0, 6))])
    others = rng.integers(0, CLASSES, len(boxes) - 2 * len(sample.labels))
    labels = np.concatenate([sample.labels, sample.labels, others]).astype(np.int32)
    scores = np.sort(rng.uniform(0.01, 1, len(boxes)))[::-1].astype(np.float32)
    order = rng.permutation(len(boxes))
    return Detections(boxes[order], scores, labels[order])


def records_of(frames: list[tuple[Detections, NDArray[np.uint8], Sample]]) -> FrameRecords:
    matched = [match_boxes(found, sample, CLASSES) for found, _, sample in frames]
    pixels = []
    for _, seen, sample in frames:
        pixels.append(SegmentationMetrics(MASK_CLASSES))
        pixels[-1].update(seen, sample.mask, sample.labeled_pixels)
    return FrameRecords(
        mask_classes=np.array([f"mask {n}" for n in range(MASK_CLASSES)]),
        box_classes=np.array([f"box {n}" for n in range(CLASSES)]),
        confusion=np.stack([each.confusion for each in pixels]).astype(np.int32),
        labeled=np.stack([each.labeled for each in pixels]),
        true_boxes=np.stack([each.true_boxes for each in matched]),
        frame=np.repeat(np.arange(len(matched), dtype=np.int32), [len(each.scores) for each in matched]),
        label=np.concatenate([each.labels for each in matched]),
        score=np.concatenate([each.scores for each in matched]),
        hits=np.concatenate([each.hits for each in matched], axis=1),
        ignored=np.concatenate([each.ignored for each in matched], axis=1),
        seen=np.concatenate([seen.ravel() for _, seen, _ in frames]),
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000), count=st.integers(1, 6))
def test_every_resample_has_the_figures_that_the_metrics_give_for_its_frames(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        sample = random_sample(rng)
        seen = rng.choice([*range(MASK_CLASSES), 200], size=sample.mask.shape).astype(np.uint8)
        frames.append((random_detections(rng, sample), seen, sample))
    records, weights = records_of(frames), frame_weights(count, resamples=2)
    precisions, iou = average_precisions(records, weights), iou_values(records, weights)
    for row, times in enumerate(weights):
        boxes, pixels = DetectionMetrics([f"box {n}" for n in range(CLASSES)]), SegmentationMetrics(MASK_CLASSES)
        for (found, seen, sample), repeats in zip(frames, times, strict=True):
            for _ in range(repeats):
                boxes.update(found, sample, 0.3)
                pixels.update(seen, sample.mask, sample.labeled_pixels)
        expected = boxes.results()
        for label, entry in enumerate(expected["per_class"].values()):
            of_class = precisions[row, :, label]
            assert of_class.mean() == pytest.approx(np.nan if entry["ap"] is None else entry["ap"], nan_ok=True)
            assert of_class[0] == pytest.approx(np.nan if entry["ap50"] is None else entry["ap50"], nan_ok=True)
        if expected["ap50"] is not None:
            assert mean_of(precisions[row, 0]) == pytest.approx(expected["ap50"])
        assert iou[row] == pytest.approx(pixels.iou(), nan_ok=True)


def test_the_first_row_counts_every_frame_once_and_the_others_as_many_frames() -> None:
    weights = frame_weights(30, resamples=200)

    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 30).all()
    assert len(np.unique(weights[1:], axis=0)) == 200
    assert (frame_weights(30, resamples=200) == weights).all(), "the same draws for every file"


def test_more_boxes_of_a_class_than_coco_takes_do_not_count() -> None:
    """COCO takes the hundred best of a class in a frame. The true box is found by the last of 101."""
    image, mask = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), np.full((SIDE_PX, SIDE_PX), 255, np.uint8)
    sample = Sample("a", image, mask, np.array([[0, 0, 20, 20]], np.float32), np.zeros(1, np.int64))
    boxes = np.array([[40, 40, 50, 50]] * 100 + [[0, 0, 20, 20]], np.float32)
    found = Detections(boxes, np.linspace(0.9, 0.1, 101, dtype=np.float32), np.zeros(101, np.int32))

    matched = match_boxes(found, sample, 1)

    assert matched.hits.shape == (len(IOU_THRESHOLDS), 100)
    assert not matched.hits.any()
