"""Draw a perception on its frame: class colours as tints, boxes with label and score."""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np

from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import Detections, Int32Array, Perception, UInt8Array

TINT = 0.45
"""Share of the class colour in a tinted pixel. The rest is the picture."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BLACK = (0, 0, 0)
_WHITE = (255, 255, 255)
_UNKNOWN = ClassInfo(-1, "unknown", (128, 128, 128))

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom, pixels."""


class DrawnClasses(Protocol):
    """Names and colours of the classes in a picture. A contract has them."""

    @property
    def segmentation_classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the pixels."""
        ...

    @property
    def detection_classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the boxes."""
        ...


def draw_overlay(
    image_bgr: UInt8Array,
    perception: Perception,
    contract: DrawnClasses,
    boundary: Int32Array | None = None,
    show_scores: bool = True,
) -> UInt8Array:
    """Draw class tints and labelled boxes on a copy of a frame, of the tasks that the perception has.

    Labels never overlap. Boxes with higher scores get theirs first: above the box if there is room, else below it, else
    not at all.

    Args:
        image_bgr: uint8 `[height, width, 3]`, the frame that was perceived.
        perception: The result for this frame.
        contract: Names and colours of the classes.
        boundary: Free-space boundary, int32 `[width]`, drawn as a line. None for no line.
        show_scores: Whether to write the scores of boxes. Labels that people drew have none.

    Returns:
        uint8 `[height, width, 3]`, C-contiguous. Unlabelled pixels keep the picture's colour.

    Raises:
        ValueError: The class map does not have the size of the frame.
    """
    class_map = perception.class_map
    if class_map is not None and image_bgr.shape[:2] != class_map.shape:
        raise ValueError(f"expected a class map of {image_bgr.shape[:2]}, got {class_map.shape}")
    picture = np.array(image_bgr, order="C") if class_map is None else _tint(image_bgr, class_map, contract)
    line = max(1, round(picture.shape[0] / 360))
    if boundary is not None:
        _draw_boundary(picture, boundary, line)
    if perception.detections is not None:
        _draw_boxes(picture, perception.detections, contract, line, show_scores)
    return picture


def color_mask(class_map: UInt8Array, contract: DrawnClasses) -> UInt8Array:
    """Paint each pixel in the colour of its class.

    Args:
        class_map: uint8 `[height, width]`, class ids.
        contract: Colours of the classes.

    Returns:
        uint8 `[height, width, 3]`, BGR, C-contiguous. Unlabelled pixels are black.
    """
    colors_bgr = np.zeros((256, 3), np.uint8)
    for info in contract.segmentation_classes:
        colors_bgr[info.id] = info.color_rgb[::-1]
    # One lookup per channel is equally fast in OpenCV 4 and 5; applyColorMap is not.
    return np.asarray(cv2.merge([cv2.LUT(class_map, colors_bgr[:, channel]) for channel in range(3)]), np.uint8)


def _draw_boxes(picture: UInt8Array, found: Detections, contract: DrawnClasses, line: int, show_scores: bool) -> None:
    classes = {c.id: c for c in contract.detection_classes}
    infos = [classes.get(label, _UNKNOWN) for label in found.labels.tolist()]
    # Right and bottom of a box are exclusive.
    boxes = [
        (int(left), int(top), math.ceil(right) - 1, math.ceil(bottom) - 1)
        for left, top, right, bottom in found.boxes_xyxy.tolist()
    ]
    for box, info in reversed(list(zip(boxes, infos, strict=True))):  # the highest score on top
        cv2.rectangle(picture, box[:2], box[2:], info.color_rgb[::-1], line)
    plates: list[Rectangle] = []
    ids = [0] * len(found) if found.track_ids is None else found.track_ids.tolist()
    for index, (info, score, track_id) in enumerate(zip(infos, found.scores.tolist(), ids, strict=True)):
        text = f"{info.name} {score:.2f}" if show_scores else info.name
        text += f" #{track_id}" if track_id else ""
        _draw_label(picture, boxes, index, info, text, plates)


def _draw_boundary(picture: UInt8Array, boundary: Int32Array, line: int) -> None:
    """Draw a white line with a black rim along the last free row of each column."""
    points = np.stack([np.arange(len(boundary), dtype=np.int32), boundary + 1], axis=-1)
    for color, thickness in ((_BLACK, line + 2), (_WHITE, line)):
        cv2.polylines(picture, [points[:, None]], False, color, thickness)


def _tint(image_bgr: UInt8Array, class_map: UInt8Array, contract: DrawnClasses) -> UInt8Array:
    labelled = np.zeros(256, np.uint8)
    labelled[[info.id for info in contract.segmentation_classes]] = 255
    blended = cv2.addWeighted(image_bgr, 1.0 - TINT, color_mask(class_map, contract), TINT, 0.0)
    cv2.copyTo(image_bgr, cv2.LUT(class_map, 255 - labelled), blended)
    return np.asarray(blended, np.uint8)


def _draw_label(
    picture: UInt8Array, boxes: list[Rectangle], index: int, info: ClassInfo, text: str, plates: list[Rectangle]
) -> None:
    """Write the label of a box on a free place, and add the place to `plates`. Write nothing if no place is free."""
    box = boxes[index]
    size = max(0.4, picture.shape[0] / 1300)
    (width, letters), baseline = cv2.getTextSize(text, _FONT, size, 1)
    height = letters + baseline
    left = max(0, min(box[0], picture.shape[1] - width))
    above, below = max(0, box[1] - height), min(box[3] + 1, picture.shape[0] - height)
    # A label below its box must not lie on another box, which would then seem to have the wrong name.
    for top, taken in ((above, plates), (below, [*plates, *boxes[:index], *boxes[index + 1 :]])):
        plate = (left, top, left + width, top + height)
        if not any(_overlap(plate, other) for other in taken):
            plates.append(plate)
            cv2.rectangle(picture, plate[:2], plate[2:], info.color_rgb[::-1], cv2.FILLED)
            ink = _BLACK if sum(info.color_rgb) > 3 * 128 else _WHITE
            cv2.putText(picture, text, (left, top + letters), _FONT, size, ink, 1, cv2.LINE_AA)
            return


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
