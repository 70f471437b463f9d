"""Test figures of resampled frames against the metrics that the rest of the package reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros_kd_perception.model.contract import ClassInfo, ClassMapSpec, DetectionSpec, InputSpec, ModelContract
from ros_kd_perception.structures import Detections, Perception, Timing
from training.data.labels import EVERY_CLASS
from training.data.sample import Sample
from training.evaluation.bootstrap import (
    average_precisions,
    average_recalls,
    frame_weights,
    frequency_weighted_iou,
    iou_values,
    mean_of,
    pixel_accuracies,
)
from training.evaluation.box_matching import IOU_THRESHOLDS, match_boxes
from training.evaluation.frame_recorder import FrameRecorder
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


CONTRACT = ModelContract(
    name="random",
    version="1",
    precision="fp32",
    input=InputSpec(64, 64),
    class_map=ClassMapSpec(4, 255, tuple(ClassInfo(n, f"mask {n}", (0, 0, n)) for n in range(MASK_CLASSES))),
    detections=DetectionSpec(100, 0.3, tuple(ClassInfo(n, f"box {n}", (0, 0, n)) for n in range(CLASSES))),
)


def perception(found: Detections | None, seen: NDArray[np.uint8] | None, doubt: Any = None) -> Perception:
    return Perception("", 0, "", seen, found, doubt, Timing(0.0, 0.0, 0.0))


def records_of(frames: list[tuple[Detections, NDArray[np.uint8], Sample]]) -> FrameRecords:
    recorder = FrameRecorder(CONTRACT)
    for found, seen, sample in frames:
        recorder.add(perception(found, seen), sample)
    return recorder.records()


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


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_recall_and_boxes_of_a_size_are_scored_as_coco_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"small": (0.0, 200.0), "medium": (200.0, 400.0), "large": (400.0, 1e9)}
    samples = [random_sample(rng) for _ in range(3)]
    found = [random_detections(rng, sample) for sample in samples]
    coco = DetectionMetrics([f"box {n}" for n in range(CLASSES)])
    for boxes, sample in zip(found, samples, strict=True):
        coco.update(boxes, sample, 0.3)
    precision, recall = of_coco(coco, sizes)
    for place, area_px in enumerate([(0.0, np.inf), *sizes.values()]):
        matched = [match_boxes(boxes, sample, CLASSES, area_px) for boxes, sample in zip(found, samples, strict=True)]
        for label in range(CLASSES):
            boxes_there = sum(each.true_boxes[label] for each in matched)
            if not boxes_there:
                assert (precision[:, :, label, place, -1] == -1).all()
                continue
            hits, ignored = (
                np.concatenate([getattr(each, name)[:, each.labels == label] for each in matched], axis=1)
                for name in ("hits", "ignored")
            )
            assert recall[:, label, place, -1] == pytest.approx((hits & ~ignored).sum(axis=1) / boxes_there)
    records = records_of([(boxes, sample.mask, sample) for boxes, sample in zip(found, samples, strict=True)])
    recalls = average_recalls(records, frame_weights(3, resamples=1))[0]
    expected = np.where(recall[0, :, 0, -1] < 0, np.nan, recall[:, :, 0, -1].mean(axis=0))
    assert recalls == pytest.approx(expected, nan_ok=True)


def of_coco(metrics: DetectionMetrics, sizes: dict[str, tuple[float, float]]) -> tuple[Any, Any]:
    """Return COCO's own precision and recall with these sizes."""
    categories = [{"id": label, "name": name} for label, name in enumerate(metrics.class_names)]
    truth = COCO({"images": metrics._images, "annotations": metrics._truth, "categories": categories})
    if not metrics._truth or not metrics._found:
        return np.full((10, 101, CLASSES, 1 + len(sizes), 3), -1.0), np.full((10, CLASSES, 1 + len(sizes), 3), -1.0)
    evaluation = COCOeval_faster(truth, truth.loadRes(metrics._found), "bbox", print_function=lambda *_: None)
    evaluation.params.maxDets = [1, 10, 100]
    evaluation.params.areaRng = [[0, 1e10], *map(list, sizes.values())]
    evaluation.params.areaRngLbl = ["all", *sizes]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def test_drives_are_drawn_whole() -> None:
    groups = ["a"] * 3 + ["b"] * 2 + ["c"]
    weights = frame_weights(6, resamples=50, groups=groups)

    assert (weights[0] == 1).all()
    assert (weights[:, :3] == weights[:, :1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[1:, [0, 3, 5]].sum(axis=1) == 3).all()


def test_weighted_iou_and_accuracy_are_those_of_a_plain_count() -> None:
    rng = np.random.default_rng(3)
    samples = [random_sample(rng) for _ in range(4)]
    frames = [
        (random_detections(rng, s), rng.integers(0, MASK_CLASSES, s.mask.shape).astype(np.uint8), s) for s in samples
    ]
    records, weights = records_of(frames), frame_weights(4, resamples=1)
    confusion = records.confusion.sum(axis=0)

    shares = confusion.sum(axis=1) / confusion.sum()
    iou = np.nan_to_num(iou_values(records, weights)[0])
    assert frequency_weighted_iou(records, weights)[0] == pytest.approx((shares * iou).sum())
    assert pixel_accuracies(records, weights)[0] == pytest.approx(np.diag(confusion).sum() / confusion.sum())


def test_wrong_pixels_are_counted_where_the_network_was_unsure() -> None:
    """The frame of 128x64 pixels lies in an input of 64x64 at half its size, so two rows of blocks belong to it."""
    truth = np.zeros((64, 128), np.uint8)
    seen = truth.copy()
    seen[:, :64] = 1  # the left half is wrong, and half of what is right, too
    sample = Sample("a", np.zeros((64, 128, 3), np.uint8), truth, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    recorder = FrameRecorder(CONTRACT)
    recorder.add(perception(None, seen, np.array([[0.9, 0.1]], np.float32)), sample)

    wrong, right = recorder.records().doubt[0]
    assert wrong[int(0.9 * 64)] == 64 * 64
    assert right[int(0.1 * 64)] == 64 * 64
    assert wrong.sum() + right.sum() == truth.size


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
