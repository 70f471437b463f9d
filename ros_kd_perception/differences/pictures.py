"""Draws a frame three times side by side: the old side, the new side, and what differs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ros_kd_perception.differences.classes import CommonClasses, ComparedClasses
from ros_kd_perception.differences.frames import FrameDifference, FramePair
from ros_kd_perception.drawing.mosaic import BACKGROUND_BGR, TILE_HEIGHT, TILE_WIDTH, Tile, shrink, write_caption
from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.drawing.overlay_video import resized_perception
from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import Detections, Perception, Timing, UInt8Array

PANELS = 3
GAP_PX = 4
ROW_HEIGHT, ROW_WIDTH = TILE_HEIGHT, PANELS * TILE_WIDTH + (PANELS - 1) * GAP_PX
"""Size of the three pictures of a frame, pixels."""

LOST_RGB, NEW_RGB, CHANGED_RGB, LEFT_OUT_RGB = (232, 52, 62), (255, 184, 0), (255, 0, 150), (70, 120, 255)

_DIMMED = 0.85  # brightness of the third picture, so that its colours stand out
_NO_IMAGE_BGR = (96, 92, 90)
_CHANGED, _LEFT_OUT, _EQUAL = 1, 2, 255
_TILE = Tile(0, 0, TILE_WIDTH, TILE_HEIGHT)
_UNTIMED = Timing(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class SmallFrame:
    """What is needed to draw a frame later, in the size of its pictures.

    Attributes:
        image_bgr: The frame, uint8 `[height, width, 3]`. Grey where the image is not known.
        old, new: The results of both sides.
        lost, gained: The boxes without a partner. Labels are indices of the common names.
    """

    image_bgr: UInt8Array
    old: Perception
    new: Perception
    lost: Detections | None
    gained: Detections | None

    @classmethod
    def of(cls, pair: FramePair, found: FrameDifference) -> SmallFrame:
        """Shrink a frame of one size to a third of a row."""
        image = pair.image()
        source = pair.size or (image.shape[:2] if image is not None else _extent(pair))
        height, width = _TILE.fit(*source)
        if image is None:
            small = np.full((height, width, 3), _NO_IMAGE_BGR, np.uint8)
        else:
            small = shrink(image, height, width)
        old, new = (resized_perception(side, source, (height, width)) for side in (pair.old, pair.new))
        lost = gained = None
        if found.boxes is not None:
            factors = np.array([width / source[1], height / source[0]] * 2, np.float32)
            lost, gained = (
                replace(boxes, boxes_xyxy=boxes.boxes_xyxy * factors)
                for boxes in (found.boxes.lost, found.boxes.gained)
            )
        return cls(small, old, new, lost, gained)


def _extent(pair: FramePair) -> tuple[int, int]:
    """Return a height and width that hold all boxes, for a frame of unknown size."""
    corners = [side.detections.boxes_xyxy for side in (pair.old, pair.new) if side.detections is not None]
    right, bottom = np.concatenate([np.array([[0, 0, 640, 360]], np.float32), *corners])[:, 2:].max(axis=0).tolist()
    return round(bottom), round(right)


def draw_row(frame: SmallFrame, classes: ComparedClasses, captions: tuple[str, str, str]) -> UInt8Array:
    """Draw a frame three times side by side.

    Args:
        frame: The frame.
        classes: Names and colours.
        captions: Lines of text in the upper left corners.

    Returns:
        uint8 `[ROW_HEIGHT, ROW_WIDTH, 3]`.
    """
    pictures = (
        draw_overlay(frame.image_bgr, frame.old, classes.old),
        draw_overlay(frame.image_bgr, frame.new, classes.new),
        _draw_difference(frame, classes),
    )
    row = np.full((ROW_HEIGHT, ROW_WIDTH, 3), BACKGROUND_BGR, np.uint8)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = place * (TILE_WIDTH + GAP_PX)
        area = row[:, left : left + TILE_WIDTH]
        height, width = picture.shape[:2]
        top, indent = (TILE_HEIGHT - height) // 2, (TILE_WIDTH - width) // 2
        area[top : top + height, indent : indent + width] = picture
        write_caption(area, caption)
    return row


@dataclass(frozen=True)
class _DrawnDifference:
    """The classes of the third picture: changed pixels, lost and new boxes."""

    segmentation_classes: tuple[ClassInfo, ...]
    detection_classes: tuple[ClassInfo, ...]


def _draw_difference(frame: SmallFrame, classes: ComparedClasses) -> UInt8Array:
    grey = cv2.convertScaleAbs(cv2.cvtColor(frame.image_bgr, cv2.COLOR_BGR2GRAY), alpha=_DIMMED)
    names = () if classes.boxes is None else classes.boxes.names
    drawn = _DrawnDifference(
        (ClassInfo(_CHANGED, "changed", CHANGED_RGB), ClassInfo(_LEFT_OUT, "left out", LEFT_OUT_RGB)),
        (
            *(ClassInfo(index, f"lost {name}", LOST_RGB) for index, name in enumerate(names)),
            *(ClassInfo(len(names) + index, f"new {name}", NEW_RGB) for index, name in enumerate(names)),
        ),
    )
    old, new, changes = frame.old.class_map, frame.new.class_map, None
    if classes.masks is not None and old is not None and new is not None:
        changes = _changes(old, new, classes.masks)
    boxes = None
    if frame.lost is not None and frame.gained is not None:
        boxes = _joined(frame.lost, replace(frame.gained, labels=frame.gained.labels + len(names)))
    seen = replace(frame.old, class_map=changes, detections=boxes, uncertainty=None, timing=_UNTIMED)
    return draw_overlay(np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8), seen, drawn)


def _changes(old: UInt8Array, new: UInt8Array, classes: CommonClasses) -> UInt8Array:
    """Return which pixels changed and which are left out, uint8 `[height, width]`."""
    old_index, new_index = classes.old_index[old], classes.new_index[new]
    changes = np.full(old.shape, _EQUAL, np.uint8)
    changes[old_index != new_index] = _CHANGED
    changes[np.maximum(old_index, new_index) > len(classes.names)] = _LEFT_OUT
    return changes


def _joined(one: Detections, other: Detections) -> Detections:
    return Detections(
        np.concatenate([one.boxes_xyxy, other.boxes_xyxy]),
        np.concatenate([one.scores, other.scores]),
        np.concatenate([one.labels, other.labels]),
    )
