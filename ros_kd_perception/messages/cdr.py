"""Parts of serialised messages, in little-endian CDR (OMG DDS-RTPS 2.5, section 10.2).

A message has four bytes that name the representation, then its fields in order. A number is aligned to its own size,
counted from the byte after those four. A text has its length first and ends with a zero byte. rclpy leaves undefined
what lies between two aligned fields. Here these bytes are zero. Neither writes bytes after the last field.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ros_kd_perception.structures import UInt8Array

UInt64Array = npt.NDArray[np.uint64]
Float64Array = npt.NDArray[np.float64]

ENCAPSULATION = b"\x00\x01\x00\x00"  # CDR_LE
_ONE_RESULT = struct.pack("<I", 1)
_EMPTY_ID = struct.pack("<Ix", 1)


def text_bytes(text: str) -> bytes:
    """Return a text with its length, padded for a field of four bytes that follows."""
    written = text.partition("\0")[0].encode()  # rclpy too ends a text at its first zero character
    return struct.pack("<I", len(written) + 1) + written + bytes(4 - len(written) % 4)


def header_bytes(stamp_ns: int, frame_id: str) -> bytes:
    """Return a std_msgs/Header, padded for a field of four bytes that follows."""
    return struct.pack("<iI", *divmod(stamp_ns, 1_000_000_000)) + text_bytes(frame_id)


def boxes_as_bytes(
    header: bytes, class_ids: UInt64Array | Sequence[bytes], numbers: Float64Array, ids: Sequence[str] | None
) -> UInt8Array:
    """Write a vision_msgs/Detection2DArray or Detection3DArray with one result for each box.

    Args:
        header: Header of the array and of each box.
        class_ids: For each box its class id as text with length and padding: eight bytes each if they are an array.
        numbers: float64 `[n, k]`: what lies between class id and id, all numbers of a box.
        ids: Ids of the boxes. None if all are empty.

    Returns:
        uint8 `[n]`, C-contiguous.
    """
    opening = ENCAPSULATION + header + struct.pack("<I", len(numbers))
    if not len(numbers):
        return np.frombuffer(opening, np.uint8)
    start = header + _ONE_RESULT
    if ids is None and isinstance(class_ids, np.ndarray):
        return _rows_of_one_length(opening, start, class_ids, numbers)
    return _one_after_the_other(opening, start, class_ids, numbers, ids or [""] * len(numbers))


def _rows_of_one_length(opening: bytes, start: bytes, class_ids: UInt64Array, numbers: Float64Array) -> UInt8Array:
    """Write the boxes as rows, so that whole columns can be filled in.

    The opening, start and class id of the first box end at a multiple of eight bytes: they have the header twice. A row
    has the numbers of a box, its empty id, and the start of the next box up to its numbers, padded to a multiple of
    eight. The start after the last box is cut off.

    Args:
        opening: The message up to the first box.
        start: A box from its header up to the class id, which follows with eight bytes.
        class_ids: The eight bytes of each box's class id.
        numbers: The numbers of the boxes.
    """
    opening += start + class_ids[0].tobytes()
    number_bytes = 8 * numbers.shape[1]
    before_class_id = number_bytes + len(_EMPTY_ID) + 3 + len(start)
    row_bytes = -(-(before_class_id + 8) // 8) * 8
    # Four bytes more in front, so that numbers aligned in the message are aligned in memory.
    message = np.empty(4 + len(opening) + len(numbers) * row_bytes, np.uint8)[4:]
    message[: len(opening)] = np.frombuffer(opening, np.uint8)
    rows = message[len(opening) :].reshape(len(numbers), row_bytes)
    between = _EMPTY_ID + bytes(3) + start
    rows[:, number_bytes:] = np.frombuffer(between.ljust(row_bytes - number_bytes, b"\0"), np.uint8)
    rows.view("<f8")[:, : numbers.shape[1]] = numbers
    rows[:-1, before_class_id : before_class_id + 8] = class_ids[1:, None].view(np.uint8)
    return message[: message.size - row_bytes + number_bytes + len(_EMPTY_ID)]


def _one_after_the_other(
    opening: bytes,
    start: bytes,
    class_ids: UInt64Array | Sequence[bytes],
    numbers: Float64Array,
    ids: Sequence[str],
) -> UInt8Array:
    """Write the boxes in turn, because their texts differ in length. Arguments: those of `_rows_of_one_length`."""
    parts, offset = [opening], len(opening) - len(ENCAPSULATION)
    texts = [one if isinstance(one, bytes) else one.tobytes() for one in class_ids]
    rows = numbers.astype("<f8", copy=False)
    for class_id, row, text in zip(texts, rows, ids, strict=True):
        padding = bytes(-(offset + len(start) + len(class_id)) % 8)
        end = text_bytes(text)
        parts += [start, class_id, padding, row.tobytes(), end]
        offset = (len(end)) % 8  # the numbers end at a multiple of eight
    parts[-1] = parts[-1][: 4 + len(ids[-1].encode()) + 1]  # without padding
    return np.frombuffer(b"".join(parts), np.uint8)
