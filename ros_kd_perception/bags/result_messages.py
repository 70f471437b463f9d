"""Reads the results of a perception node out of their messages: class maps, boxes and names of classes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ros_kd_perception.bags.errors import BagError
from ros_kd_perception.images.message import check_size
from ros_kd_perception.model.contract import MAX_DETECTIONS
from ros_kd_perception.structures import BadFrame, Detections, UInt8Array

MAX_CLASSES = 256


def class_map_of(camera: str, mask: Any) -> UInt8Array:
    """Return the class map of a sensor_msgs/Image, uint8 `[height, width]`, a view of the message.

    Raises:
        BagError: It is not a mono8 image, or has fewer pixels than it says.
    """
    if mask.encoding != "mono8" or len(mask.data) < mask.step * mask.height or mask.step < mask.width:
        raise BagError(f"expected a mono8 class map of {camera}, got {mask.encoding} {mask.width}x{mask.height}")
    try:
        check_size(mask.height, mask.width)
    except BadFrame as error:
        raise BagError(f"expected a class map of {camera}, got: {error}") from None
    rows = np.frombuffer(mask.data, np.uint8)[: mask.step * mask.height].reshape(mask.height, mask.step)
    return rows[:, : mask.width]


def detections_of(camera: str, array: Any, id_of_name: Mapping[str, int] = MappingProxyType({})) -> Detections:
    """Return the boxes of a vision_msgs/Detection2DArray, with the best hypothesis of each.

    Args:
        camera: Name of the camera, for errors.
        array: The message, of rclpy or rosbags.
        id_of_name: Ids of the classes by name, for class ids that are names.

    Raises:
        BagError: A number is not finite, a class id is neither an integer of 0..255 nor one of the names, or there are
            more than `MAX_DETECTIONS` boxes.
    """
    found = [detection for detection in array.detections if detection.results]
    if len(found) > MAX_DETECTIONS:
        raise BagError(f"expected at most {MAX_DETECTIONS} boxes of {camera} in a frame, got {len(found)}")
    boxes = np.zeros((len(found), 4), np.float32)
    for row, detection in zip(boxes, found, strict=True):
        center, half_x, half_y = detection.bbox.center.position, detection.bbox.size_x / 2, detection.bbox.size_y / 2
        row[:] = (center.x - half_x, center.y - half_y, center.x + half_x, center.y + half_y)
    best = [detection.results[0].hypothesis for detection in found]
    scores = np.array([hypothesis.score for hypothesis in best], np.float32)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise BagError(f"expected finite boxes and scores of {camera}, got NaN or infinity")
    labels = np.array([_class_id(camera, one.class_id, id_of_name) for one in best], np.int32)
    return Detections(boxes, scores, labels)


def class_names_of(topic: str, label_info: Any) -> dict[int, str]:
    """Return the names by id of a vision_msgs/LabelInfo.

    Raises:
        BagError: An id is above 255 or occurs twice.
    """
    classes = label_info.class_map
    names = {int(one.class_id): str(one.class_name) for one in classes}
    if len(names) != len(classes) or not all(0 <= class_id < MAX_CLASSES for class_id in names):
        raise BagError(f"expected ids of 0 to 255 on {topic}, each once, got {[one.class_id for one in classes][:20]}")
    return names


def _class_id(camera: str, text: str, id_of_name: Mapping[str, int]) -> int:
    if text in id_of_name:
        return id_of_name[text]
    if not (text.isdecimal() and text.isascii() and len(text) <= 3 and int(text) < MAX_CLASSES):
        raise BagError(f"expected class ids of 0 to 255 in the boxes of {camera}, got {text[:40]!r}")
    return int(text)
