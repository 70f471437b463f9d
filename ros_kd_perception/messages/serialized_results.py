"""SerializedResults: writes masks, boxes and points as serialised messages, without message objects between.

The messages are those of `MessageBuilder`, in little-endian CDR (OMG DDS-RTPS 2.5, section 10.2): four bytes that name
the representation, then the fields in order. A number is aligned to its own size, counted from the byte after those
four. A text has its length first and ends with a zero byte. rclpy leaves undefined what lies between two aligned
fields. Here these bytes are zero. Neither writes bytes after the last field.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ros_kd_perception.messages.mask_memory import MaskMessages
from ros_kd_perception.model.boxes import centers_and_sizes
from ros_kd_perception.structures import Detections, Float32Array, Perception, UInt8Array

FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32
FLOAT32_BYTES = 4
POINT_BYTES = 3 * FLOAT32_BYTES

_UInt64Array = npt.NDArray[np.uint64]

_ENCAPSULATION = b"\x00\x01\x00\x00"  # CDR_LE
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
    """

    def __init__(self) -> None:
        self._masks = MaskMessages(_MaskMessage.make)

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
        head = _ENCAPSULATION + _header(perception) + _CLOUD_SIZE.pack(height, width, 3) + _XYZ + steps
        return np.concatenate((np.frombuffer(head, np.uint8), content, _NOT_DENSE))

    def detections(self, perception: Perception) -> UInt8Array:
        """Return the boxes as a serialised vision_msgs/Detection2DArray in source-image pixels, best first.

        Returns:
            uint8 `[n]`, C-contiguous.

        Raises:
            ValueError: The model does not do detection, or a class id is not in 0..255.
        """
        found, header = perception.require_detections(), _header(perception)
        opening = _ENCAPSULATION + header + struct.pack("<I", len(found))
        if not len(found):
            return np.frombuffer(opening, np.uint8)
        class_ids = _class_ids_as_text(found)
        opening += header + _ONE_RESULT + class_ids[0].tobytes()
        if found.track_ids is not None:
            return _with_tracked_boxes(opening, header + _ONE_RESULT, class_ids, found)
        return _with_boxes(opening, header + _ONE_RESULT, class_ids, found)


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


def _image_head(perception: Perception, pixels: UInt8Array) -> UInt8Array:
    height, width = pixels.shape
    fields = _IMAGE_FIELDS.pack(height, width, len(_MONO8), _MONO8, 0, width, pixels.size)
    return np.frombuffer(_ENCAPSULATION + _header(perception) + fields, np.uint8)


def _header(perception: Perception) -> bytes:
    """Return the std_msgs/Header, padded for the number of four bytes that follows in each message."""
    seconds, nanoseconds = divmod(perception.stamp_ns, 1_000_000_000)
    text = perception.frame_id.partition("\0")[0].encode()  # rclpy too ends a text at its first zero character
    return struct.pack("<iII", seconds, nanoseconds, len(text) + 1) + text + bytes(4 - len(text) % 4)


def _class_ids_as_text(found: Detections) -> _UInt64Array:
    try:
        return _CLASS_IDS[found.labels.astype(np.uint32)]  # unsigned, because -1 would be the last one
    except IndexError:
        raise ValueError(f"expected class ids 0..255, as a contract has, got {found.labels.tolist()}") from None


def _with_boxes(opening: bytes, start: bytes, class_ids: _UInt64Array, found: Detections) -> UInt8Array:
    """Write the boxes as rows of one length, so that whole columns can be filled in.

    The opening ends before the first number of the first box, at a multiple of eight bytes: it has the header twice. A
    row has the numbers of a box, its empty id, and the start of the next box up to its numbers, padded to a multiple of
    eight. The start after the last box is cut off.

    Args:
        opening: The message up to the numbers of the first box.
        start: A box from its header up to the class id, which follows with eight bytes.
        class_ids: The eight bytes of each box's class id.
        found: The boxes.
    """
    numbers_and_id = _BOX_NUMBERS.tobytes() + _EMPTY_ID
    before_class_id = len(numbers_and_id) + 3 + len(start)
    row_bytes = -(-(before_class_id + 8) // 8) * 8
    # Four bytes more in front, so that numbers aligned in the message are aligned in memory.
    message = np.empty(4 + len(opening) + len(found) * row_bytes, np.uint8)[4:]
    message[: len(opening)] = np.frombuffer(opening, np.uint8)
    rows = message[len(opening) :].reshape(len(found), row_bytes)
    rows[:] = np.frombuffer((numbers_and_id + bytes(3) + start).ljust(row_bytes, b"\0"), np.uint8)
    numbers = rows.view("<f8")
    numbers[:, _SCORE] = found.scores
    numbers[:, _CENTER], numbers[:, _SIZE] = centers_and_sizes(found.boxes_xyxy)
    rows[:-1, before_class_id : before_class_id + 8] = class_ids[1:, None].view(np.uint8)
    return message[: message.size - row_bytes + len(numbers_and_id)]


def _with_tracked_boxes(opening: bytes, start: bytes, class_ids: _UInt64Array, found: Detections) -> UInt8Array:
    """Write the boxes one after the other, because their ids differ in length. Arguments: those of `_with_boxes`."""
    numbers = np.tile(_BOX_NUMBERS, (len(found), 1))
    numbers[:, _SCORE] = found.scores
    numbers[:, _CENTER], numbers[:, _SIZE] = centers_and_sizes(found.boxes_xyxy)
    parts = [opening]
    for row, text in enumerate(ids_as_text(found)):
        if row:
            parts += [start, class_ids[row].tobytes()]
            parts.append(bytes(-sum(map(len, parts[-3:])) % 8))  # the numbers before are a multiple of eight long
        parts += [numbers[row].tobytes(), struct.pack("<I", len(text) + 1) + text.encode() + bytes(4 - len(text) % 4)]
    parts[-1] = parts[-1][: 4 + len(text) + 1]
    return np.frombuffer(b"".join(parts), np.uint8)
