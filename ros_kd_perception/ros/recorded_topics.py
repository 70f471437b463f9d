"""Which topics of a perception node are recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from ros_kd_perception.parameters.camera_names import CAMERA_NAME
from ros_kd_perception.parameters.rules import MAX_CAMERA_CHARACTERS

NODE_NAME = re.compile(r"(?=.{1,150}$)(/[A-Za-z_][A-Za-z0-9_]*)+")
"""Fully qualified; with a camera and the kind of result behind it, a topic has at most 255 characters."""


@dataclass(frozen=True)
class RecordedTopic:
    """One topic to record: `kind` is what the traffic log calls it, latched ones reach a late reader of the bag too."""

    topic: str
    kind: str
    camera: str
    message_type: type[Any]
    type_name: str
    latched: bool = False


def topics_of(perception: str, cameras: Sequence[str]) -> list[RecordedTopic]:
    """All topics of a perception node.

    Args:
        perception: fully qualified name of the node, such as `/perception`.
        cameras: names of its cameras.

    Raises:
        ValueError: names that no topic can have.
    """
    if not NODE_NAME.fullmatch(perception):
        raise ValueError(f"expected --perception to be a node's full name like /perception, got {perception[:80]!r}")
    for camera in cameras:
        if not CAMERA_NAME.fullmatch(camera) or len(camera) > MAX_CAMERA_CHARACTERS:
            raise ValueError(
                f"expected --cameras to be names of up to {MAX_CAMERA_CHARACTERS} letters, digits and underscores, "
                f"got {camera[:80]!r}"
            )
    topics = [RecordedTopic("/diagnostics", "diagnostics", "", DiagnosticArray, "diagnostic_msgs/msg/DiagnosticArray")]
    for camera in cameras:
        base = f"{perception.rstrip('/')}/{camera}"
        info = (LabelInfo, "vision_msgs/msg/LabelInfo", True)
        topics += [
            RecordedTopic(f"{base}/segmentation", "segmentation", camera, Image, "sensor_msgs/msg/Image"),
            RecordedTopic(
                f"{base}/detections", "detections", camera, Detection2DArray, "vision_msgs/msg/Detection2DArray"
            ),
            RecordedTopic(f"{base}/segmentation/label_info", "segmentation_labels", camera, *info),
            RecordedTopic(f"{base}/detections/label_info", "detection_labels", camera, *info),
        ]
    return topics
