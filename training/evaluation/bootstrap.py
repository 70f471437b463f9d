"""Figures of resampled frames: how much mIoU and AP depend on which frames happened to be labelled.

The bootstrap (B. Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979) draws as many
frames as there are, with repetition, again and again. Every draw has exact figures of its own. Two files are compared
on the same draws, so that what is hard about a frame cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.box_matching import IOU_THRESHOLDS
from training.evaluation.frame_records import FrameRecords

CONFIDENCE = 0.95  # of every interval
RESAMPLES = 500
SEED = 0
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
_VALUES_AT_ONCE = 1 << 21

Values = NDArray[np.float64]
"""A figure: of all frames, then of each resample. NaN where the frames do not yield it."""


def frame_weights(
    frames: int, resamples: int = RESAMPLES, groups: Sequence[str] | None = None, seed: int = SEED
) -> NDArray[np.int64]:
    """Return how often each frame counts, int64 (1 + resamples, frames). The first row counts every frame once.

    Args:
        frames: Number of frames.
        resamples: Number of draws.
        groups: Name of the group of each frame, for example its drive. Whole groups are drawn then, as many as there
            are, because frames of one drive are much alike. None = each frame is drawn by itself.
        seed: Of the draws. Figures of two sets of frames that become one need draws of their own.
    """
    names, of_frame = (frames, np.arange(frames)) if groups is None else _numbered(groups)
    drawn = np.random.default_rng(seed).multinomial(names, np.full(names, 1 / names), size=resamples)
    return np.concatenate([np.ones((1, frames), np.int64), drawn[:, of_frame]])


def _numbered(groups: Sequence[str]) -> tuple[int, NDArray[np.intp]]:
    names, of_frame = np.unique(np.asarray(groups), return_inverse=True)
    return len(names), of_frame


def iou_values(records: FrameRecords, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the intersection over union, (weights, classes), as `SegmentationMetrics` defines it."""
    frames, classes = records.labeled.shape
    counted = weights.astype(np.float64) @ records.confusion.reshape(frames, -1)
    confusion = counted.reshape(len(weights), classes, classes + 1)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    union = confusion.sum(axis=2) + confusion[:, :, :classes].sum(axis=1) - hits
    scored = (union > 0) & (weights @ records.labeled.astype(np.int64) > 0)
    iou: NDArray[np.float64] = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=scored)
    return iou


def boundary_iou_values(records: FrameRecords, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU along outlines, (weights, classes), see `training.evaluation.boundary`."""
    frames, classes = records.labeled.shape
    both, either = np.moveaxis((weights @ records.outlines.reshape(frames, -1)).reshape(-1, classes, 2), 2, 0)
    iou: NDArray[np.float64] = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    return iou


def frequency_weighted_iou(records: FrameRecords, weights: NDArray[np.int64]) -> Values:
    """Return the mean IoU of the classes, each weighted by its share of the labelled pixels.

    "Frequency weighted IU" of J. Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015.
    """
    pixels = (weights @ records.confusion.sum(axis=2)).astype(np.float64)
    total = pixels.sum(axis=1)
    weighted = (pixels * np.nan_to_num(iou_values(records, weights))).sum(axis=1)
    found: Values = np.divide(weighted, total, out=np.full(total.shape, np.nan), where=total > 0)
    return found


def pixel_accuracies(records: FrameRecords, weights: NDArray[np.int64]) -> Values:
    """Return the share of the labelled pixels with the right class."""
    right = weights @ np.diagonal(records.confusion, axis1=1, axis2=2).sum(axis=1).astype(np.int64)
    total = weights @ records.confusion.sum(axis=(1, 2)).astype(np.int64)
    found: Values = np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)
    return found


def average_recalls(records: FrameRecords, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return COCO's average recall, (weights, classes): of 100 boxes a frame, mean over the thresholds of the IoU."""
    found = np.full((len(weights), len(records.box_classes)), np.nan)
    for label in range(len(records.box_classes)):
        boxes = weights @ records.true_boxes[:, label].astype(np.int64)
        of_class = records.label == label
        # A bincount is a sum by frame; hits of ten thresholds are summed first.
        hits = np.bincount(records.frame[of_class], records.hits[:, of_class].mean(axis=0), records.frames)
        found[:, label] = np.divide(weights @ hits, boxes, out=np.full(len(weights), np.nan), where=boxes > 0)
    return found


def average_precisions(
    records: FrameRecords, weights: NDArray[np.int64], thresholds: int = len(IOU_THRESHOLDS)
) -> NDArray[np.float64]:
    """Return COCO's average precision, (weights, thresholds of the IoU, classes); NaN for a class without boxes.

    A frame that is drawn twice counts as two frames with the same boxes.

    Args:
        records: Counts of each frame.
        weights: int64 (n, frames), how often each frame counts.
        thresholds: How many of IOU_THRESHOLDS to compute, from the lowest on; 1 gives AP50 alone.
    """
    return _precisions(records, weights, records.true_boxes, records.hits[:thresholds], records.ignored[:thresholds])


def average_precisions_of_size(records: FrameRecords, weights: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Return COCO's average precision of boxes of one size, like `average_precisions`.

    Args:
        records: Counts of the frames.
        weights: How often each frame counts.
        size: Place of the size in BOX_SIZES.
    """
    parts = records.true_boxes_by_size[size], records.hits_by_size[size], records.ignored_by_size[size]
    return _precisions(records, weights, *parts)


def _precisions(
    records: FrameRecords,
    weights: NDArray[np.int64],
    true_boxes: NDArray[np.int32],
    hits: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
) -> NDArray[np.float64]:
    found = np.full((len(weights), len(hits), len(records.box_classes)), np.nan)
    for label in range(len(records.box_classes)):
        boxes = weights @ true_boxes[:, label].astype(np.int64)
        places = np.flatnonzero(records.label == label)
        places = places[np.argsort(-records.score[places], kind="stable")]
        for threshold in range(len(hits)):
            counted = places[~ignored[threshold, places]]
            precision = _average_precision(
                hits[threshold, counted], weights[:, records.frame[counted]], np.maximum(boxes, 1)
            )
            found[:, threshold, label] = np.where(boxes > 0, precision, np.nan)
    return found


def mean_of(values: NDArray[np.float64]) -> Values:
    """Return the mean over the last axis without NaN; NaN where all are."""
    there = np.isfinite(values)
    count = there.sum(axis=-1)
    total = np.where(there, values, 0).sum(axis=-1)
    mean: Values = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return mean


def _average_precision(
    hits: NDArray[np.bool_], times: NDArray[np.int64], boxes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean precision over RECALL_LEVELS for each row of `times`.

    Args:
        hits: bool (d,), whether each detection is right, best score first.
        times: int64 (n, d), how often each detection counts.
        boxes: int64 (n,), number of true boxes, at least 1.
    """
    rows = max(1, _VALUES_AT_ONCE // max(1, len(hits)))
    parts = [slice(first, first + rows) for first in range(0, len(times), rows)]
    return np.concatenate([_mean_precision(hits, times[part], boxes[part]) for part in parts])


def _mean_precision(hits: NDArray[np.bool_], times: NDArray[np.int64], boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    right = np.cumsum(np.where(hits, times, 0), axis=1)
    all_so_far = np.cumsum(times, axis=1)
    recall = right / boxes[:, None]
    precision = right / np.maximum(all_so_far, 1)
    # The precision at a level of recall is the best one at this level or beyond it.
    reached = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.concatenate([reached, np.zeros((len(times), 1))], axis=1)
    return np.array(
        [row[np.searchsorted(levels, RECALL_LEVELS)].mean() for row, levels in zip(reached, recall, strict=True)]
    )
