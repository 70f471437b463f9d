"""CamVid frames: masks as they come, boxes from connected regions of the masks.

CamVid has no boxes and no instances. A connected region of "car" pixels is taken for one car. Cars that overlap in the
picture become one box and a car behind a pole becomes two, so these boxes are approximate: give them a `box_weight`
below 1, and do not quote detection metrics on them without saying so.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.classes import SEGMENTATION_ID_OF_DETECTION_ID, UNLABELED_ID
from training.config.recipe import SourceRecipe
from training.data.readers.base import ClassIds, LabeledFolder

VOID_ID = 11
REGION_AREA_MIN_PX = 40
REGION_SIDE_MIN_PX = 5
# A pole or a lamp in front cuts a region; closing bridges a cut of this width.
BRIDGED_GAP_PX = 3


class CamVidFolder(LabeledFolder):
    """A CamVid split: ids 0..10 are ours, 11 is void."""

    def __init__(self, recipe: SourceRecipe) -> None:
        super().__init__(recipe)
        # To find a frame's regions takes a third of the time of making a sample; `check` fills this for all of them.
        self._boxes: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}

    def to_our_ids(self, mask: ClassIds) -> ClassIds:
        """Void becomes "not labelled"."""
        return np.where(mask == VOID_ID, np.uint8(UNLABELED_ID), mask)

    def read_boxes(self, name: str, mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes of the mask's regions."""
        if name not in self._boxes:
            self._boxes[name] = boxes_from_regions(mask)
        return self._boxes[name]


def boxes_from_regions(mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A box around each connected region of the classes that are detected.

    Regions under REGION_AREA_MIN_PX pixels, or narrower or lower than REGION_SIDE_MIN_PX, are dropped.

    Args:
        mask: uint8 (h, w), segmentation class ids.

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
