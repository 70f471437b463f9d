"""SerializedResults: writes masks, boxes and points as serialised messages, without message objects between.

The messages are those of `MessageBuilder`, in the representation that `cdr.py` explains.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ros_kd_perception.ground_positions.ground_camera import GroundPositions
from ros_kd_perception.messages.cdr import ENCAPSULATION, UInt64Array, boxes_as_bytes, header_bytes, text_bytes
from ros_kd_perception.messages.ground_objects import numbers_of
from ros_kd_perception.messages.mask_memory import MaskMessages
from ros_kd_perception.model.boxes import centers_and_sizes
from ros_kd_perception.structures import Detections, Float32Array, Perception, UInt8Array

FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32
FLOAT32_BYTES = 4
POINT_BYTES = 3 * FLOAT32_BYTES

# After the header of an Image: height, width, encoding with its length, is_bigendian, step, length of the data.
_IMAGE_FIELDS = struct.Struct("<III6sBxII")
_MONO8 = b"mono8\0"
# After the header of a PointCloud2: height, width, number of fields. Each field: name with its length, offset, type,
# count. Then is_bigendian, point_step, row_step and length of the data.
_CLOUD_SIZE, _CLOUD_FIELD, _CLOUD_STEPS = (
    struct.Struct("<III"),
    struct.Struct("<I2sxxIBxxxI"),
    struct.Struct("<BxxxIII"),
)
_XYZ = b"".join(
    _CLOUD_FIELD.pack(2, name, FLOAT32_BYTES * index, FLOAT32, 1) for index, name in enumerate((b"x\0", b"y\0", b"z\0"))
)
# Space before the pixels of a mask: a frame id of 255 characters of four bytes, and the other fields. Rounded up.
_HEAD_BYTES = 1088

# The float64 numbers of a Detection2D: score, pose with covariance (no position, no rotation), then the box.
_BOX_NUMBERS = np.zeros(49, "<f8")
_ORIENTATION_W, _SCORE, _CENTER, _SIZE = 7, 0, slice(44, 46), slice(47, 49)
_BOX_NUMBERS[_ORIENTATION_W] = 1.0
_NOT_DENSE = np.zeros(1, np.uint8)
_EMPTY_ID = struct.pack("<Ix", 1)
_ONE_RESULT = struct.pack("<I", 1)
# A class id as text has one to three digits: with its length, zero byte and padding, each takes eight bytes.
_CLASS_IDS = np.frombuffer(b"".join(struct.pack("<I4s", len(str(i)) + 1, str(i).encode()) for i in range(256)), "<u8")


class SerializedResults:
    """Writes the messages of perceptions as bytes that a publisher can send as they are.

    Has the methods of `MessageBuilder` for the messages that are large or frequent. The bytes equal those that rclpy
    makes of the builder's messages, apart from padding. Safe in several threads.

    Args:
        class_names: Names by id, for class ids that are names. None for class ids that are numbers.
    """

    def __init__(self, class_names: Mapping[int, str] | None = None) -> None:
        self._masks = MaskMessages(_MaskMessage.make)
        self._class_names = None
        if class_names is not None:
            self._class_names = {class_id: text_bytes(name) for class_id, name in class_names.items()}

    def new_class_map(self, height: int, width: int) -> UInt8Array:
        """Return the pixels of a serialised mask, uint8 `[height, width]`, with undefined content.

        The memory is reused when the last view of it is gone, the results of `segmentation` included.
        """
        return self._masks.new_class_map(height, width)

    def segmentation(self, perception: Perception) -> UInt8Array:
        """Return the class map as a serialised sensor_msgs/Image: mono8, a class id for each pixel.

        A class map that `new_class_map` created is not copied. The result is then a view of the same memory, valid
        until the next call with this class map.

        Returns:
            uint8 `[n]`, C-contiguous.

        Raises:
            ValueError: The model does not do segmentation.
        """
        class_map = perception.require_class_map()
        head = _image_head(perception, class_map)
        data = self._masks.data_of(class_map)
        if data is None or head.size > _HEAD_BYTES:
            return np.concatenate((head, class_map.reshape(-1)))
        # The head ends where the pixels start, so the start of the message varies with the length of the frame id.
        data[_HEAD_BYTES - head.size : _HEAD_BYTES] = head
        return data[_HEAD_BYTES - head.size :]

    def gray_image(self, perception: Perception, pixels: UInt8Array) -> UInt8Array:
        """Return pixels as a serialised sensor_msgs/Image, mono8, with the perception's header.

        Args:
            perception: The perception.
            pixels: uint8 `[height, width]`.

        Returns:
            uint8 `[n]`, C-contiguous.
        """
        return np.concatenate((_image_head(perception, pixels), pixels.reshape(-1)))

    def ground_points(self, perception: Perception, points: Float32Array) -> UInt8Array:
        """Return points as a serialised, organised sensor_msgs/PointCloud2 in the frame of the perception.

        Args:
            perception: The perception.
            points: float32 `[height, width, 3]`, x, y and z in metres. NaN where there is no point.

        Returns:
            uint8 `[n]`, C-contiguous.
        """
        height, width, _ = points.shape
        content = np.ascontiguousarray(points, "<f4").view(np.uint8).reshape(-1)
        steps = _CLOUD_STEPS.pack(0, POINT_BYTES, POINT_BYTES * width, content.size)
        head = ENCAPSULATION + _header(perception) + _CLOUD_SIZE.pack(height, width, 3) + _XYZ + steps
        return np.concatenate((np.frombuffer(head, np.uint8), content, _NOT_DENSE))

    def detections(self, perception: Perception) -> UInt8Array:
        """Return the boxes as a serialised vision_msgs/Detection2DArray in source-image pixels, best first.

        Returns:
            uint8 `[n]`, C-contiguous.

        Raises:
            ValueError: The model does not do detection, or a class id is not in 0..255.
        """
        found = perception.require_detections()
        numbers = np.tile(_BOX_NUMBERS, (len(found), 1))
        numbers[:, _SCORE] = found.scores
        numbers[:, _CENTER], numbers[:, _SIZE] = centers_and_sizes(found.boxes_xyxy)
        return boxes_as_bytes(_header(perception), self._class_ids(found), numbers, _ids(found))

    def ground_detections(self, perception: Perception, frame_id: str, positions: GroundPositions) -> UInt8Array:
        """Return positions on the ground as a serialised vision_msgs/Detection3DArray, in the order of their boxes.

        Args:
            perception: The results for the frame.
            frame_id: Frame of the positions.
            positions: The positions of its objects.

        Returns:
            uint8 `[n]`, C-contiguous.

        Raises:
            ValueError: A class id is not in 0..255.
        """
        header, found = header_bytes(perception.stamp_ns, frame_id), positions.found
        return boxes_as_bytes(header, self._class_ids(found), numbers_of(positions), _ids(found))

    def _class_ids(self, found: Detections) -> UInt64Array | Sequence[bytes]:
        numbers = _class_ids_as_text(found)
        if self._class_names is None:
            return numbers
        rows = zip(found.labels.tolist(), numbers, strict=True)
        return [self._class_names.get(label) or number.tobytes() for label, number in rows]


class _MaskMessage(NamedTuple):
    """A serialised mask with space for its head.

    Attributes:
        data: uint8 `[_HEAD_BYTES + height * width]`.
    """

    height: int
    width: int
    data: UInt8Array

    @classmethod
    def make(cls, height: int, width: int) -> _MaskMessage:
        return cls(height, width, np.empty(_HEAD_BYTES + height * width, np.uint8))


def ids_as_text(found: Detections) -> list[str]:
    """Return the ids of boxes as Detection2D has them: a decimal number, or nothing for a box without a track."""
    if found.track_ids is None:
        return [""] * len(found)
    return [str(number) if number else "" for number in found.track_ids.tolist()]


def _ids(found: Detections) -> list[str] | None:
    return None if found.track_ids is None else ids_as_text(found)


def _image_head(perception: Perception, pixels: UInt8Array) -> UInt8Array:
    height, width = pixels.shape
    fields = _IMAGE_FIELDS.pack(height, width, len(_MONO8), _MONO8, 0, width, pixels.size)
    return np.frombuffer(ENCAPSULATION + _header(perception) + fields, np.uint8)


def _header(perception: Perception) -> bytes:
    return header_bytes(perception.stamp_ns, perception.frame_id)


def _class_ids_as_text(found: Detections) -> UInt64Array:
    try:
        return _CLASS_IDS[found.labels.astype(np.uint32)]  # unsigned, because -1 would be the last one
    except IndexError:
        raise ValueError(f"expected class ids 0..255, as a contract has, got {found.labels.tolist()}") from None
