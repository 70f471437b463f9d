"""Box overlap."""

from __future__ import annotations

import numpy as np

from ros_kd_perception.structures import Float32Array


def iou_xyxy(boxes_a: Float32Array, boxes_b: Float32Array) -> Float32Array:
    """Return the intersection over union of every pair: `[n, 4]` and `[m, 4]` xyxy -> float32 `[n, m]`."""
    corner_min = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    corner_max = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    intersection = (corner_max - corner_min).clip(min=0).prod(axis=2)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2]).clip(min=0).prod(axis=1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2]).clip(min=0).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9), np.float32)
