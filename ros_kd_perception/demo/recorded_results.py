"""Read the results of a perception node from the bag in which they were recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ros_kd_perception.bags.reader import BagError, BagReader, RawMessage, decode_message
from ros_kd_perception.structures import Detections, Float32Array, Int32Array, Perception, Timing, UInt8Array

Size = tuple[int, int]
"""Height and width in pixels."""

_TIMING_UNKNOWN = Timing(0.0, 0.0, 0.0)
_UNCERTAINTY_UNKNOWN = np.zeros((1, 1), np.float32)


@dataclass(frozen=True)
class RecordedResult:
    """Both results of one frame, shrunk to the size of its picture.

    Full-size class maps of a minute take gigabytes. Shrunk and stored as PNG, they take some megabytes.

    Attributes:
        camera: Name of the camera, as in the topic names.
        stamp_ns: Header stamp.
        frame_id: Header frame.
        source_size: Size of the camera image.
        picture_size: Size of the shrunk image.
        class_map_png: The shrunk class map.
        pixels_by_class: Number of pixels of the shrunk class map for each id, int32 `[256]`.
        detections: Boxes in pixels of the shrunk image.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    source_size: Size
    picture_size: Size
    class_map_png: bytes
    pixels_by_class: Int32Array
    detections: Detections

    def perception(self, size: Size) -> Perception:
        """Return the result as a perception of the image at a size of at most `picture_size`."""
        class_map = cv2.imdecode(np.frombuffer(self.class_map_png, np.uint8), cv2.IMREAD_GRAYSCALE)
        found = self.detections
        detections = Detections(found.boxes_xyxy * _scale(self.picture_size, size), found.scores, found.labels)
        return Perception(
            self.camera,
            self.stamp_ns,
            self.frame_id,
            _nearest(np.asarray(class_map, np.uint8), size),
            detections,
            _UNCERTAINTY_UNKNOWN,
            _TIMING_UNKNOWN,
        )


@dataclass(frozen=True)
class Recording:
    """The content of a recording: results by camera and stamp, and the last diagnostics (None if there were none)."""

    results: dict[tuple[str, int], RecordedResult]
    last_diagnostics: Any


def read_recording(
    path: Path, perception: str, cameras: Collection[str], picture_size: Callable[[str, Size], Size]
) -> Recording:
    """Read a whole recording.

    Args:
        path: The bag.
        perception: Name of the node, for example `/perception`.
        cameras: Names of its cameras.
        picture_size: Returns the size to shrink results to, from the camera and the size of its images.

    Raises:
        BagError: The bag or a message in it cannot be read.
        BadFrame: A message in it cannot be decoded.
    """
    masks = {camera: f"{perception}/{camera}/segmentation" for camera in cameras}
    boxes = {f"{perception}/{camera}/detections": camera for camera in cameras}
    camera_of_mask = {topic: camera for camera, topic in masks.items()}
    results: dict[tuple[str, int], RecordedResult] = {}
    arrays: dict[tuple[str, int], Any] = {}
    last_diagnostics: RawMessage | None = None
    with BagReader(path, masks) as bag:
        for raw in bag.raw_messages({*camera_of_mask, *boxes, "/diagnostics"}):
            if raw.topic == "/diagnostics":
                last_diagnostics = raw
                continue
            message = decode_message(raw)
            stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            if raw.topic in boxes:
                arrays[boxes[raw.topic], stamp_ns] = message
            else:
                camera = camera_of_mask[raw.topic]
                results[camera, stamp_ns] = _shrink(camera, stamp_ns, message, picture_size)
    for key in list(results):
        if key not in arrays:
            del results[key]  # a mask without boxes is no result
        else:
            results[key] = _with_detections(results[key], arrays[key])
    return Recording(results, decode_message(last_diagnostics) if last_diagnostics else None)


def _shrink(camera: str, stamp_ns: int, mask: Any, picture_size: Callable[[str, Size], Size]) -> RecordedResult:
    if mask.encoding != "mono8" or len(mask.data) < mask.step * mask.height or mask.step < mask.width:
        raise BagError(f"expected a mono8 class map of {camera}, got {mask.encoding} {mask.width}x{mask.height}")
    class_map = np.frombuffer(mask.data, np.uint8)[: mask.step * mask.height].reshape(mask.height, mask.step)
    source_size = (mask.height, mask.width)
    size = picture_size(camera, source_size)
    small = _nearest(class_map[:, : mask.width], size)
    _, png = cv2.imencode(".png", small, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    pixels_by_class = np.bincount(small.ravel(), minlength=256).astype(np.int32)
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    return RecordedResult(
        camera, stamp_ns, mask.header.frame_id, source_size, size, png.tobytes(), pixels_by_class, none
    )


def _with_detections(result: RecordedResult, array: Any) -> RecordedResult:
    found = [detection for detection in array.detections if detection.results]
    boxes = np.zeros((len(found), 4), np.float32)
    for row, detection in zip(boxes, found, strict=True):
        center, half_x, half_y = detection.bbox.center.position, detection.bbox.size_x / 2, detection.bbox.size_y / 2
        row[:] = (center.x - half_x, center.y - half_y, center.x + half_x, center.y + half_y)
    best = [detection.results[0].hypothesis for detection in found]
    boxes *= _scale(result.source_size, result.picture_size)
    detections = Detections(
        boxes,
        np.array([hypothesis.score for hypothesis in best], np.float32),
        np.array([int(hypothesis.class_id) for hypothesis in best], np.int32),
    )
    return replace(result, detections=detections)


def _nearest(class_map: UInt8Array, size: Size) -> UInt8Array:
    """Resize a class map: each new pixel takes the old pixel nearest to its centre."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, class_map.shape, strict=True)
    )
    return np.ascontiguousarray(class_map[rows][:, columns])


def _scale(old: Size, new: Size) -> Float32Array:
    """Return the factors that scale boxes xyxy from one size to another."""
    scale_y, scale_x = new[0] / old[0], new[1] / old[1]
    return np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
