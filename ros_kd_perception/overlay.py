"""Draw a perception on its frame: classes as tints, boxes with label and score."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ros_kd_perception.model_contract import ClassInfo, ModelContract
from ros_kd_perception.structures import Perception, UInt8Array

TINT = 0.45
"""Share of the class colour in a tinted pixel; the rest is the picture."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BLACK = (0, 0, 0)
_WHITE = (255, 255, 255)


def draw_overlay(image_bgr: UInt8Array, perception: Perception, contract: ModelContract) -> UInt8Array:
    """Draw class tints and labelled boxes on a copy of a frame.

    Args:
        image_bgr: uint8 `[height, width, 3]`, the frame that was perceived.
        perception: its class map has the size of the frame.
        contract: names and colours of the classes.

    Returns:
        uint8 `[height, width, 3]`, C-contiguous; unlabelled pixels keep the picture's colour.
    """
    if image_bgr.shape[:2] != perception.class_map.shape:
        raise ValueError(f"expected a class map of {image_bgr.shape[:2]}, got {perception.class_map.shape}")
    picture = _tint(image_bgr, perception.class_map, contract)
    classes = {c.id: c for c in contract.detections.classes}
    detections = perception.detections
    for index in reversed(range(len(detections))):  # the surest box on top
        # The right and bottom sides of a box are the first pixels that it does not hold.
        left, top = (int(side) for side in detections.boxes_xyxy[index, :2])
        right, bottom = (math.ceil(side) - 1 for side in detections.boxes_xyxy[index, 2:])
        info = classes.get(int(detections.labels[index]), ClassInfo(-1, "unknown", (128, 128, 128)))
        _draw_box(picture, (left, top, right, bottom), info, float(detections.scores[index]))
    return picture


def _tint(image_bgr: UInt8Array, class_map: UInt8Array, contract: ModelContract) -> UInt8Array:
    colors_bgr = np.zeros((256, 3), np.uint8)
    labelled = np.zeros(256, np.uint8)
    for info in contract.class_map.classes:
        colors_bgr[info.id] = info.color_rgb[::-1]
        labelled[info.id] = 255
    # One look-up a channel: OpenCV 4 and 5 do that at the same speed, applyColorMap they do not.
    tints = cv2.merge([cv2.LUT(class_map, colors_bgr[:, channel]) for channel in range(3)])
    blended = cv2.addWeighted(image_bgr, 1.0 - TINT, tints, TINT, 0.0)
    cv2.copyTo(image_bgr, cv2.LUT(class_map, 255 - labelled), blended)
    return np.asarray(blended, np.uint8)


def _draw_box(picture: UInt8Array, box_xyxy: tuple[int, int, int, int], info: ClassInfo, score: float) -> None:
    left, top, right, bottom = box_xyxy
    size = max(0.4, picture.shape[0] / 1300)
    line = max(1, round(picture.shape[0] / 360))
    color_bgr = info.color_rgb[::-1]
    cv2.rectangle(picture, (left, top), (right, bottom), color_bgr, line)
    text = f"{info.name} {score:.2f}"
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, size, 1)
    plate_top = max(0, top - text_height - baseline)
    plate_left = min(left, max(0, picture.shape[1] - text_width))
    plate_bottom = plate_top + text_height + baseline
    cv2.rectangle(picture, (plate_left, plate_top), (plate_left + text_width, plate_bottom), color_bgr, cv2.FILLED)
    ink = _BLACK if sum(info.color_rgb) > 3 * 128 else _WHITE
    cv2.putText(picture, text, (plate_left, plate_bottom - baseline), _FONT, size, ink, 1, cv2.LINE_AA)
