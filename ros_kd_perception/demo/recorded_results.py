"""Read the results of a perception node from the bag in which they were recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ros_kd_perception.bags.reader import BagReader, RawMessage, decode_message
from ros_kd_perception.bags.result_messages import class_map_of, detections_of
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION, TASKS
from ros_kd_perception.model.letterbox import resized_class_map
from ros_kd_perception.structures import Detections, Float32Array, Int32Array, Perception, Timing, UInt8Array

Size = tuple[int, int]
"""Height and width in pixels."""

TOPIC_OF_TASK = {SEGMENTATION: "segmentation", DETECTION: "detections"}
"""The topic of each task's results below `~/<camera>/`."""

_TIMING_UNKNOWN = Timing(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class RecordedMask:
    """The class map of one frame, shrunk to the size of its picture.

    Full-size class maps of a minute take gigabytes. Shrunk and stored as PNG, they take some megabytes.

    Attributes:
        source_size: Size of the camera image.
        picture_size: Size of the shrunk class map.
        png: The shrunk class map.
        pixels_by_class: Number of pixels of the shrunk class map for each id, int32 `[256]`.
    """

    source_size: Size
    picture_size: Size
    png: bytes
    pixels_by_class: Int32Array

    def class_map(self, size: Size) -> UInt8Array:
        """Return the class map at a size of at most `picture_size`."""
        class_map = cv2.imdecode(np.frombuffer(self.png, np.uint8), cv2.IMREAD_GRAYSCALE)
        return resized_class_map(np.asarray(class_map, np.uint8), *size)


@dataclass(frozen=True)
class RecordedResult:
    """The results of one frame, one for each task of the model.

    Attributes:
        camera: Name of the camera, as in the topic names.
        stamp_ns: Header stamp.
        frame_id: Header frame.
        mask: The class map. None without segmentation.
        detections: Boxes in pixels of the camera image. None without detection.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    mask: RecordedMask | None = None
    detections: Detections | None = None

    @property
    def tasks(self) -> set[str]:
        """The tasks that there are results of."""
        parts = {SEGMENTATION: self.mask, DETECTION: self.detections}
        return {task for task, part in parts.items() if part is not None}

    @property
    def boxes(self) -> int:
        """Number of boxes, 0 without detection."""
        return 0 if self.detections is None else len(self.detections)

    def fits(self, source_size: Size) -> bool:
        """Return whether the result can be of a camera image of this size."""
        return self.mask is None or self.mask.source_size == source_size

    def perception(self, size: Size, source_size: Size) -> Perception:
        """Return the result as a perception of a picture.

        Args:
            size: Size of the picture, at most the size to which the class map was shrunk.
            source_size: Size of the camera image.
        """
        found = self.detections
        if found is not None:
            found = replace(found, boxes_xyxy=found.boxes_xyxy * _scale(source_size, size))
        class_map = None if self.mask is None else self.mask.class_map(size)
        return Perception(self.camera, self.stamp_ns, self.frame_id, class_map, found, None, _TIMING_UNKNOWN)


@dataclass(frozen=True)
class Recording:
    """The content of a recording: results by camera and stamp, and the last diagnostics (None if there were none)."""

    results: dict[tuple[str, int], RecordedResult]
    last_diagnostics: Any


def read_recording(
    path: Path,
    perception: str,
    cameras: Collection[str],
    picture_size: Callable[[str, Size], Size],
    tasks: Collection[str] = TASKS,
) -> Recording:
    """Read a whole recording.

    Args:
        path: The bag.
        perception: Name of the node, for example `/perception`.
        cameras: Names of its cameras.
        picture_size: Returns the size to shrink class maps to, from the camera and the size of its images.
        tasks: What the model does. A frame without a message of each of them has no result.

    Raises:
        BagError: The bag or a message in it cannot be read.
        BadFrame: A message in it cannot be decoded.
    """
    kinds = [TOPIC_OF_TASK[task] for task in tasks]
    topics = {f"{perception}/{camera}/{kind}": (camera, kind) for camera in cameras for kind in kinds}
    results: dict[tuple[str, int], RecordedResult] = {}
    last_diagnostics: RawMessage | None = None
    with BagReader(path, without_cameras=True) as bag:
        for raw in bag.raw_messages({*topics, "/diagnostics"}):
            if raw.topic == "/diagnostics":
                last_diagnostics = raw
                continue
            message = decode_message(raw)
            camera, kind = topics[raw.topic]
            stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            result = results.get((camera, stamp_ns), RecordedResult(camera, stamp_ns, message.header.frame_id))
            if kind == TOPIC_OF_TASK[SEGMENTATION]:
                result = replace(result, mask=_shrink(camera, message, picture_size))
            else:
                result = replace(result, detections=detections_of(camera, message))
            results[camera, stamp_ns] = result
    complete = {key: result for key, result in results.items() if result.tasks == set(tasks)}
    return Recording(complete, decode_message(last_diagnostics) if last_diagnostics else None)


def _shrink(camera: str, mask: Any, picture_size: Callable[[str, Size], Size]) -> RecordedMask:
    class_map = class_map_of(camera, mask)
    source_size = (mask.height, mask.width)
    size = picture_size(camera, source_size)
    small = resized_class_map(class_map, *size)
    _, png = cv2.imencode(".png", small, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    pixels_by_class = np.bincount(small.ravel(), minlength=256).astype(np.int32)
    return RecordedMask(source_size, size, png.tobytes(), pixels_by_class)


def _scale(old: Size, new: Size) -> Float32Array:
    """Return the factors that scale boxes xyxy from one size to another."""
    scale_y, scale_x = new[0] / old[0], new[1] / old[1]
    return np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
