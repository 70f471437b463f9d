"""One frame of both sides, and how its results differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ros_kd_perception.differences.boxes import BoxDifference, compare_boxes
from ros_kd_perception.differences.classes import ComparedClasses
from ros_kd_perception.differences.masks import MaskDifference, compare_masks, share
from ros_kd_perception.drawing.overlay_video import resized_perception
from ros_kd_perception.structures import Perception, UInt8Array


def no_image() -> UInt8Array | None:
    """Return None: the picture of the frame is not known."""
    return None


@dataclass(frozen=True)
class FramePair:
    """The results of both sides for one camera frame.

    Attributes:
        camera: Name of the camera.
        stamp_ns: Header stamp of the frame, nanoseconds.
        log_time_ns: When the old side recorded it, nanoseconds.
        old, new: The results.
        image: Returns the frame, uint8 `[height, width, 3]` BGR, or None if it is not known. It is called only for
            frames that are drawn.
    """

    camera: str
    stamp_ns: int
    log_time_ns: int
    old: Perception
    new: Perception
    image: Callable[[], UInt8Array | None] = no_image

    def of_one_size(self) -> FramePair:
        """Return the pair with both results in the size of the larger class map. The source image has that size."""
        old, new = self.old.class_map, self.new.class_map
        if old is None or new is None or old.shape == new.shape:
            return self
        if old.size < new.size:
            return replace(self, old=_scaled(self.old, old, new))
        return replace(self, new=_scaled(self.new, new, old))

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the class maps, pixels. None without a class map."""
        maps = [side.class_map for side in (self.old, self.new) if side.class_map is not None]
        return (int(maps[0].shape[0]), int(maps[0].shape[1])) if maps else None


def _scaled(perception: Perception, own: UInt8Array, other: UInt8Array) -> Perception:
    return resized_perception(perception, (own.shape[0], own.shape[1]), (other.shape[0], other.shape[1]))


@dataclass(frozen=True)
class FrameDifference:
    """How the results of one frame differ. What is not compared is None.

    Attributes:
        masks: Difference of the class maps.
        boxes: Difference of the boxes.
    """

    masks: MaskDifference | None
    boxes: BoxDifference | None

    @classmethod
    def of(cls, pair: FramePair, classes: ComparedClasses) -> FrameDifference:
        """Compare a pair that has one size."""
        masks = boxes = None
        old, new = pair.old, pair.new
        if classes.masks is not None and old.class_map is not None and new.class_map is not None:
            masks = compare_masks(old.class_map, new.class_map, classes.masks)
        if classes.boxes is not None and old.detections is not None and new.detections is not None:
            boxes = compare_boxes(old.detections, new.detections, classes.boxes)
        return cls(masks, boxes)

    @property
    def mask_agreement(self) -> float | None:
        """Share of the compared pixels that have the same class, 0..1."""
        changed = None if self.masks is None else self.masks.changed_share
        return None if changed is None else 1 - changed

    @property
    def box_agreement(self) -> float | None:
        """Share of the boxes of both sides that have a partner, 0..1. 1 if both sides see nothing."""
        if self.boxes is None:
            return None
        found = share(2 * len(self.boxes.matched), len(self.boxes.old) + len(self.boxes.new))
        return 1.0 if found is None else found

    @property
    def box_weight(self) -> float:
        """Sum of the scores of lost and new boxes."""
        if self.boxes is None:
            return 0.0
        return sum(float(side.scores.sum(dtype=np.float64)) for side in (self.boxes.lost, self.boxes.gained))
