"""Boxes around the connected regions of a mask, for labels that have no boxes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.classes import SEGMENTATION_ID_OF_DETECTION_ID

REGION_AREA_MIN_PX = 40
REGION_SIDE_MIN_PX = 5
# A pole or a lamp in front cuts a region; closing bridges a cut of this width.
BRIDGED_GAP_PX = 3


def boxes_from_regions(mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a box around each connected region of the classes that are detected.

    Regions under REGION_AREA_MIN_PX pixels, or narrower or lower than REGION_SIDE_MIN_PX, are dropped.

    Args:
        mask: Segmentation class ids, uint8 (h, w).

    Returns:
        Boxes float32 (n, 4) xyxy with exclusive far edges, and labels int64 (n,).
    """
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    kernel = np.ones((BRIDGED_GAP_PX, BRIDGED_GAP_PX), np.uint8)
    for label, segmentation_id in SEGMENTATION_ID_OF_DETECTION_ID.items():
        region = (mask == segmentation_id).astype(np.uint8)
        if not region.any():
            continue
        closed = cv2.morphologyEx(region, cv2.MORPH_CLOSE, kernel)
        _, _, statistics, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
        for x, y, width, height, area in statistics[1:].tolist():
            if area >= REGION_AREA_MIN_PX and min(width, height) >= REGION_SIDE_MIN_PX:
                boxes.append((x, y, x + width, y + height))
                labels.append(label)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)
