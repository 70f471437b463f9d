"""Pairs of perceptions for tests of their comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from shipped_classes import DETECTION_CLASSES, SEGMENTATION_CLASSES, UNLABELED_ID

from ros_kd_perception.differences.classes import ComparedClasses, SideClasses
from ros_kd_perception.differences.frames import FramePair
from ros_kd_perception.structures import Detections, Perception, Timing

SIDE = SideClasses(SEGMENTATION_CLASSES, DETECTION_CLASSES, UNLABELED_ID)
CLASSES = ComparedClasses.of(SIDE, SIDE)
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 100_000_000
HEIGHT, WIDTH = 20, 40


def boxes(*rows: Sequence[float]) -> Detections:
    """Return boxes: left, top, right, bottom, score and label each."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4].copy(), table[:, 4].copy(), table[:, 5].astype(np.int32))


def pair(
    number: int,
    changed_px: int = 0,
    old: Detections | None = None,
    new: Detections | None = None,
    camera: str = "front",
) -> FramePair:
    """Return a frame of which some pixels change from class 3 to class 4."""
    stamp_ns = START_NS + number * PERIOD_NS
    old_map = np.full((HEIGHT, WIDTH), 3, np.uint8)
    new_map = old_map.copy()
    new_map.reshape(-1)[:changed_px] = 4
    found = boxes((1, 1, 9, 9, 0.9, 0))
    sides = [
        Perception(camera, stamp_ns, "", class_map, found if own is None else own, None, Timing(0.0, 0.0, 0.0))
        for class_map, own in ((old_map, old), (new_map, new))
    ]
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    return FramePair(camera, stamp_ns, stamp_ns, sides[0], sides[1], lambda: picture)
