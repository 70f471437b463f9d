"""Centres, sizes and overlap of boxes, and non-maximum suppression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ros_kd_perception.structures import Float32Array, Int32Array

BoolArray = npt.NDArray[np.bool_]

_BLOCK_ROWS = 128


def iou_xyxy(boxes_a: Float32Array, boxes_b: Float32Array) -> Float32Array:
    """Return the intersection over union of every pair: `[n, 4]` and `[m, 4]` xyxy -> float32 `[n, m]`."""
    intersection = _intersections(boxes_a, boxes_b)
    union = _areas(boxes_a)[:, None] + _areas(boxes_b)[None, :] - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9), np.float32)


def centers_and_sizes(boxes_xyxy: Float32Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return centres (x, y) and sizes (width, height) of boxes, float64 `[n, 2]` each, the precision of messages."""
    corners = boxes_xyxy.astype(np.float64)
    return (corners[:, :2] + corners[:, 2:]) * 0.5, corners[:, 2:] - corners[:, :2]


def match_by_iou(iou: Float32Array, least_iou: float) -> list[tuple[int, int]]:
    """Pair rows with columns greedily, best IoU first. Each row and each column is in one pair at most.

    The transposed table gives the same pairs. For that, pairs of equal IoU are taken by the sum of their row and
    column: pairs that also have the same sum share neither row nor column, so their order does not matter.

    Args:
        iou: float32 `[n, m]`. 0 for pairs that must not be made.
        least_iou: The smallest IoU of a pair, above 0.

    Returns:
        Row and column of each pair, best first.
    """
    rows, columns = np.nonzero(iou >= least_iou)
    order = np.lexsort((rows, rows + columns, -iou[rows, columns]))
    free_rows, free_columns = np.ones(iou.shape[0], np.bool_), np.ones(iou.shape[1], np.bool_)
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    return pairs


def best_of_each_object(
    boxes_xyxy: Float32Array, scores: Float32Array, labels: Int32Array, iou_limit: float
) -> npt.NDArray[np.intp]:
    """Return the rows that class-wise non-maximum suppression keeps, best score first.

    A row is dropped if its IoU with a kept row of the same class and a higher score is over the limit.

    Args:
        boxes_xyxy: float32 `[n, 4]`, finite.
        scores: float32 `[n]`. Of equal scores, the earlier row counts as the better one.
        labels: int32 `[n]`.
        iou_limit: The largest IoU of two kept boxes of one class, 0..1.
    """
    waiting = np.argsort(-scores, kind="stable")
    kept: list[npt.NDArray[np.intp]] = []
    while len(waiting):
        # A block of the best rows against all that wait, because a table of all pairs does not fit into the cache.
        block, rest = waiting[:_BLOCK_ROWS], waiting[_BLOCK_ROWS:]
        duplicates = _overlap(boxes_xyxy[block], boxes_xyxy[waiting], iou_limit)
        duplicates &= labels[block, None] == labels[None, waiting]
        best = _without_duplicates(duplicates[:, : len(block)])
        kept.append(block[best])
        waiting = rest[~duplicates[best, len(block) :].any(axis=0)]
    return np.concatenate(kept) if kept else waiting


def _without_duplicates(duplicates: BoolArray) -> list[int]:
    """Return the rows of a square table, best first, that are no duplicate of a kept row before them."""
    kept, dropped = [], 0
    # Bits of Python integers, because a step on small arrays takes ten times as long.
    packed = np.packbits(duplicates, axis=1, bitorder="little")
    for row in range(len(duplicates)):
        if not dropped >> row & 1:
            kept.append(row)
            dropped |= int.from_bytes(packed[row].tobytes(), "little")
    return kept


def _overlap(boxes_a: Float32Array, boxes_b: Float32Array, iou_limit: float) -> BoolArray:
    """Return which pairs have an IoU over the limit, without a division: bool `[n, m]`."""
    # i / (a + b - i) > limit is i > (a + b) * limit / (1 + limit).
    share = np.float32(iou_limit / (1 + iou_limit))
    limits = (_areas(boxes_a) * share)[:, None] + (_areas(boxes_b) * share)[None, :]
    return np.asarray(_intersections(boxes_a, boxes_b) > limits, np.bool_)


def _intersections(boxes_a: Float32Array, boxes_b: Float32Array) -> Float32Array:
    # One axis at a time, contiguous and in place: a tenth of the time of arrays [n, m, 2].
    left_a, top_a, right_a, bottom_a = np.ascontiguousarray(boxes_a.T)[:, :, None]
    left_b, top_b, right_b, bottom_b = np.ascontiguousarray(boxes_b.T)[:, None, :]
    width = np.minimum(right_a, right_b)
    width -= np.maximum(left_a, left_b)
    np.maximum(width, 0, out=width)
    height = np.minimum(bottom_a, bottom_b)
    height -= np.maximum(top_a, top_b)
    np.maximum(height, 0, out=height)
    return np.asarray(np.multiply(width, height, out=height), np.float32)


def _areas(boxes: Float32Array) -> Float32Array:
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sizes[:, 0] * sizes[:, 1], np.float32)
