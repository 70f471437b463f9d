"""Read sensor_msgs/Image and CompressedImage from their serialised bytes (CDR) without copying the pixels.

rclpy copies the pixels twice to make a message, from the middleware into C and from C into Python. Here a message is a
view of the bytes that the middleware delivered. It has the attributes of rclpy's message with the same values.

The layout is that of OMG DDS-RTPS 2.5, section 10.2: four bytes that name the representation, then the fields in order.
A number of four bytes is aligned to four bytes. A text has its length first and ends with a zero byte. The messages
here have no number of eight bytes, so both versions of plain CDR give the same bytes.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ros_kd_perception.structures import BadFrame, UInt8Array

SerializedBytes: TypeAlias = UInt8Array | memoryview | bytes

# The representations that are read, by the first two bytes. Parameter lists and delimited forms have other layouts.
_BYTE_ORDERS = {
    b"\x00\x00": ">",  # CDR_BE
    b"\x00\x01": "<",  # CDR_LE
    b"\x00\x06": ">",  # PLAIN_CDR2_BE
    b"\x00\x07": "<",  # PLAIN_CDR2_LE
}
_ENCAPSULATION_BYTES = 4
_NUMBER_BYTES = 4


class Stamp(NamedTuple):
    """A builtin_interfaces/Time: seconds (int32) and nanoseconds (uint32) since the epoch of the stamp's clock."""

    sec: int
    nanosec: int


class Header(NamedTuple):
    """A std_msgs/Header."""

    stamp: Stamp
    frame_id: str


class SerializedImage(NamedTuple):
    """A sensor_msgs/Image that is a view of serialised bytes.

    Attributes:
        data: uint8 `[n]`, a view of the bytes that were read. Read-only if they are.
    """

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: UInt8Array


class SerializedCompressedImage(NamedTuple):
    """A sensor_msgs/CompressedImage that is a view of serialised bytes.

    Attributes:
        data: uint8 `[n]`, a view of the bytes that were read. Read-only if they are.
    """

    header: Header
    format: str
    data: UInt8Array


def read_image(serialized: SerializedBytes) -> SerializedImage:
    """Read a serialised sensor_msgs/Image.

    Args:
        serialized: The message with its encapsulation header, contiguous. Bytes after the message are ignored. Must not
            change while the result is in use.

    Raises:
        BadFrame: `bad_data`, if the bytes are not plain CDR or end before the message does.
    """
    fields = _Fields(serialized)
    header = fields.header()
    height, width = fields.numbers("II")
    encoding, is_bigendian = fields.text(), fields.octet()
    (step,) = fields.numbers("I")
    return SerializedImage(header, height, width, encoding, is_bigendian, step, fields.octets())


def read_compressed_image(serialized: SerializedBytes) -> SerializedCompressedImage:
    """Read a serialised sensor_msgs/CompressedImage.

    Args:
        serialized: The message with its encapsulation header, contiguous. Bytes after the message are ignored. Must not
            change while the result is in use.

    Raises:
        BadFrame: `bad_data`, if the bytes are not plain CDR or end before the message does.
    """
    fields = _Fields(serialized)
    return SerializedCompressedImage(fields.header(), fields.text(), fields.octets())


def stamp_ns_of(serialized: SerializedBytes) -> int:
    """Read only the stamp of a serialised message whose first field is a std_msgs/Header.

    Returns:
        Nanoseconds since the epoch of the stamp's clock.

    Raises:
        BadFrame: `bad_data`, if the bytes are not plain CDR or too short to hold a stamp.
    """
    stamp = _Fields(serialized).stamp()
    return stamp.sec * 1_000_000_000 + stamp.nanosec


class _Fields:
    """Reads the fields of one message in turn. Checks before each that the message is long enough.

    Positions count from the first byte of the encapsulation header. Alignment counts from the byte after it, which is
    the same, because the encapsulation header has four bytes and no field has more.
    """

    __slots__ = ("_at", "_order", "_view")

    def __init__(self, serialized: SerializedBytes) -> None:
        buffer: Any = serialized  # the types of NumPy for Python 3.10 do not say that an array is a buffer
        self._view = memoryview(buffer)
        representation = bytes(self._view[:2])
        if len(self._view) < _ENCAPSULATION_BYTES or representation not in _BYTE_ORDERS:
            raise BadFrame(
                "bad_data",
                "expected a serialised message that starts with four bytes for plain CDR, "
                f"got {len(self._view)} bytes that start with 0x{representation.hex()}",
            )
        self._order = _BYTE_ORDERS[representation]
        self._at = _ENCAPSULATION_BYTES

    def header(self) -> Header:
        return Header(self.stamp(), self.text())

    def stamp(self) -> Stamp:
        return Stamp(*self.numbers("iI"))

    def numbers(self, kinds: str) -> tuple[int, ...]:
        """Read numbers of four bytes, one for each letter of `struct`'s formats."""
        self._at = -(-self._at // _NUMBER_BYTES) * _NUMBER_BYTES
        return struct.unpack_from(self._order + kinds, self._view, self._pass(_NUMBER_BYTES * len(kinds)))

    def octet(self) -> int:
        return self._view[self._pass(1)]

    def text(self) -> str:
        """Read a text as rclpy does: up to the first zero byte, and invalid UTF-8 becomes U+FFFD."""
        start = self._pass(*self.numbers("I"))
        return bytes(self._view[start : self._at]).partition(b"\0")[0].decode("utf-8", "replace")

    def octets(self) -> UInt8Array:
        """Return a view of a sequence of uint8."""
        start = self._pass(*self.numbers("I"))
        return np.frombuffer(self._view, np.uint8)[start : self._at]

    def _pass(self, count: int) -> int:
        """Move behind the next bytes and return where they start."""
        start, self._at = self._at, self._at + count
        if self._at > len(self._view):
            raise BadFrame(
                "bad_data",
                f"expected a serialised message of at least {self._at} bytes, as its fields claim, "
                f"got {len(self._view)}",
            )
        return start
