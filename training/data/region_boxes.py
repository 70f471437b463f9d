"""Boxes around the connected regions of a mask, for labels that have no boxes."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.labels import SourceBoxes

REGION_AREA_MIN_PX = 40
REGION_SIDE_MIN_PX = 5
# A pole or a lamp in front cuts a region; closing bridges a cut of this width.
BRIDGED_GAP_PX = 3


def boxes_from_regions(mask: NDArray[np.uint8] | NDArray[np.uint16], region_ids: Mapping[int, int]) -> SourceBoxes:
    """Return a box around each connected region of the classes that are detected.

    Regions under REGION_AREA_MIN_PX pixels, or narrower or lower than REGION_SIDE_MIN_PX, are dropped.

    Args:
        mask: Segmentation class ids, (h, w).
        region_ids: The id in the mask of each id of boxes; see `LabelSet.region_ids`.

    Returns:
        Boxes xyxy with exclusive far edges, with the ids of boxes.
    """
    rows: list[tuple[tuple[int, int, int, int], int, bool]] = []
    kernel = np.ones((BRIDGED_GAP_PX, BRIDGED_GAP_PX), np.uint8)
    for label, segmentation_id in region_ids.items():
        region = (mask == segmentation_id).astype(np.uint8)
        if not region.any():
            continue
        closed = cv2.morphologyEx(region, cv2.MORPH_CLOSE, kernel)
        _, _, statistics, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
        for x, y, width, height, area in statistics[1:].tolist():
            if area >= REGION_AREA_MIN_PX and min(width, height) >= REGION_SIDE_MIN_PX:
                rows.append(((x, y, x + width, y + height), label, False))
    return SourceBoxes.of(rows)
