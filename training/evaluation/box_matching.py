"""Match the boxes of one frame to its true boxes by the rules of COCO, so that any choice of frames can be scored.

The rules are those of github.com/cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py: at each threshold of the IoU,
detections take true boxes of their class, best score first; what overlaps an ignored region counts neither way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.structures import Detections
from training.data.labels import EVERY_CLASS
from training.data.sample import Sample

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
EVERY_SIZE = (0.0, np.inf)
BOX_SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
"""Areas of boxes in pixels of the source image, by COCO's names."""
MAX_DETECTIONS = 100  # of a class in a frame


@dataclass(frozen=True)
class MatchedBoxes:
    """What the boxes of one frame are worth, at each of IOU_THRESHOLDS.

    Attributes:
        labels: int32 (d,), classes of the detections.
        scores: float64 (d,), their scores.
        hits: bool (thresholds, d), whether a detection is right.
        ignored: bool (thresholds, d), whether it counts neither as right nor as wrong.
        true_boxes: int32 (classes,), number of true boxes.
    """

    labels: NDArray[np.int32]
    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    true_boxes: NDArray[np.int32]


def of_labeled_classes(found: Detections, sample: Sample) -> Detections:
    """Return the detections without those of classes that the source of the frame does not label."""
    labeled = sample.labeled_boxes
    if labeled is None or labeled.all():
        return found
    kept = labeled[found.labels]
    return Detections(found.boxes_xyxy[kept], found.scores[kept], found.labels[kept])


def labeled_truth(sample: Sample) -> Sample:
    """Return a frame without true boxes of classes that its source does not label: `positives_only` has some.

    What is found of such a class counts neither way, so that its objects cannot count as missed either.
    """
    labeled = sample.labeled_boxes
    if labeled is None or labeled[sample.labels].all():
        return sample
    kept = labeled[sample.labels]
    return replace(sample, boxes_xyxy=sample.boxes_xyxy[kept], labels=sample.labels[kept])


def match_boxes(
    found: Detections, sample: Sample, classes: int, area_px: tuple[float, float] = EVERY_SIZE
) -> MatchedBoxes:
    """Match the detections of a frame. Their order is the same for every range of areas.

    Args:
        found: Detections with scores down to nearly 0, because average precision needs them.
        sample: Frame with the true boxes.
        classes: Number of classes.
        area_px: Only true boxes with an area in this range count, both ends included. What is found of others counts
            neither way, and so does what is not found anywhere and has an area outside of the range.
    """
    found, sample = of_labeled_classes(found, sample), labeled_truth(sample)
    parts = [_match_class(found, sample, label, area_px) for label in range(classes)]
    inside = _inside(sample.boxes_xyxy, area_px)
    counts = np.array([int((inside & (sample.labels == label)).sum()) for label in range(classes)], np.int32)
    if not parts:
        nothing = np.zeros((len(IOU_THRESHOLDS), 0), np.bool_)
        return MatchedBoxes(np.zeros(0, np.int32), np.zeros(0), nothing, nothing, counts)
    return MatchedBoxes(
        np.repeat(np.arange(classes, dtype=np.int32), [len(scores) for scores, _, _ in parts]),
        np.concatenate([scores for scores, _, _ in parts]),
        np.concatenate([hits for _, hits, _ in parts], axis=1),
        np.concatenate([ignored for _, _, ignored in parts], axis=1),
        counts,
    )


def _match_class(
    found: Detections, sample: Sample, label: int, area_px: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return scores, hits and ignored detections of one class, best score first."""
    places = np.flatnonzero(found.labels == label)
    places = places[np.argsort(-found.scores[places], kind="stable")][:MAX_DETECTIONS]
    boxes = found.boxes_xyxy[places].astype(np.float64)
    true_boxes = sample.boxes_xyxy[sample.labels == label]
    inside = _inside(true_boxes, area_px)
    over_true = _overlaps(boxes, true_boxes, crowd=False)
    over_ignored = _overlaps(boxes, _ignored_regions(sample, label), crowd=True)
    unasked = ~_inside(boxes, area_px)
    hits = np.zeros((len(IOU_THRESHOLDS), len(places)), np.bool_)
    ignored = np.zeros_like(hits)
    free = np.ones((len(IOU_THRESHOLDS), over_true.shape[1]), np.bool_)
    for place in range(len(places)):
        taken = _best(over_true[place], free & inside)
        other = np.where(taken < 0, _best(over_true[place], free & ~inside), -1)
        for chosen in (taken, other):
            free[chosen >= 0, chosen[chosen >= 0]] = False
        hits[:, place] = taken >= 0
        of_no_object = over_ignored[place].max(initial=0.0) >= IOU_THRESHOLDS
        ignored[:, place] = ~hits[:, place] & ((other >= 0) | of_no_object | unasked[place])
    return found.scores[places].astype(np.float64), hits, ignored


def _inside(boxes_xyxy: NDArray[np.floating[Any]], area_px: tuple[float, float]) -> NDArray[np.bool_]:
    """Return whether the area of each box is in a range, bool (n,)."""
    area = (boxes_xyxy[:, 2:].astype(np.float64) - boxes_xyxy[:, :2]).prod(axis=1)
    inside: NDArray[np.bool_] = (area >= area_px[0]) & (area <= area_px[1])
    return inside


def _best(overlaps: NDArray[np.float64], free: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the free true box of the largest overlap at each threshold, -1 for none; the last one of equals."""
    if not len(overlaps):
        return np.full(len(free), -1, np.intp)
    there = np.where(free & (overlaps >= IOU_THRESHOLDS[:, None]), overlaps, -1.0)
    best = len(overlaps) - 1 - there[:, ::-1].argmax(axis=1)
    return np.where(there[np.arange(len(there)), best] >= 0, best, -1)


def _ignored_regions(sample: Sample, label: int) -> NDArray[np.float32]:
    if sample.ignored_xyxy is None or sample.ignored_labels is None:
        return np.zeros((0, 4), np.float32)
    chosen = (sample.ignored_labels == label) | (sample.ignored_labels == EVERY_CLASS)
    regions: NDArray[np.float32] = sample.ignored_xyxy[chosen]
    return regions


def _overlaps(boxes: NDArray[np.float64], others: NDArray[np.float32], *, crowd: bool) -> NDArray[np.float64]:
    """Return the IoU of boxes (n, 4) and others (m, 4), or with a crowd the share of each box that it covers."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    other = (others[:, 2:].astype(np.float64) - others[:, :2]).prod(axis=1)[None]
    whole = np.broadcast_to(area, shared.shape) if crowd else area + other - shared
    overlaps: NDArray[np.float64] = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return overlaps
