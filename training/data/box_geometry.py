"""What happens to boxes when their frame is cropped, resized, mirrored or covered."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_MIN_PX = 3.0  # boxes with a shorter side after the crop are dropped
HIDDEN_SHARE_MAX = 0.6  # boxes are dropped if pasted objects cover a larger share


def area(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas of boxes (n, 4) in square pixels; 0 where right is left of left, or bottom above top."""
    sides = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def placed(
    boxes_xyxy: NDArray[np.float32], window: tuple[int, int, int, int], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return boxes in pixels of a window that is resized to height x width, and the same boxes clipped to it.

    Args:
        boxes_xyxy: float32 (n, 4), in pixels of the frame.
        window: Left, top, right and bottom in pixels of the frame. May reach outside of it.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
    """
    left, top, right, bottom = window
    scale = np.array([width / (right - left), height / (bottom - top)] * 2, np.float32)
    boxes = (boxes_xyxy - np.array([left, top] * 2, np.float32)) * scale
    return boxes, np.clip(boxes, 0, np.array([width, height] * 2, np.float32))


def whole_enough(
    boxes_xyxy: NDArray[np.float32], clipped_xyxy: NDArray[np.float32], visible_share_min: float
) -> NDArray[np.bool_]:
    """Return which boxes keep at least `visible_share_min` of their area, and sides of SIDE_MIN_PX, when clipped."""
    sides = clipped_xyxy[:, 2:] - clipped_xyxy[:, :2]
    kept: NDArray[np.bool_] = area(clipped_xyxy) >= visible_share_min * area(boxes_xyxy)
    return kept & (sides >= SIDE_MIN_PX).all(axis=1)


def mirrored(boxes_xyxy: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the boxes of a frame of `width` pixels after left and right are swapped."""
    boxes = boxes_xyxy[:, [2, 1, 0, 3]]
    boxes[:, [0, 2]] = width - boxes[:, [0, 2]]
    return boxes


def covered_shares(pasted: NDArray[np.bool_], boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of each box that pasted pixels cover.

    Args:
        pasted: bool (h, w).
        boxes_xyxy: float32 (n, 4), inside the frame.
    """
    integral = np.asarray(cv2.integral(pasted.astype(np.uint8)), np.int32)
    x0, y0, x1, y1 = np.rint(boxes_xyxy).astype(np.int64).T
    covered = integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]
    return np.asarray(covered / np.maximum(1, (x1 - x0) * (y1 - y0)), np.float64)
