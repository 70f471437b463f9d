"""Reads the stamp of a serialised message without deserialising the rest.

Messages with images have megabytes. The player and the recorder need only the header's stamp, to match results with
camera messages.
"""

from __future__ import annotations

import struct

_HEADER_AT = 4  # after the encapsulation header: representation identifier (2 bytes) and options (2 bytes)
_STAMP_BYTES = 8


def stamp_ns_of(serialized: bytes | memoryview) -> int:
    """Read the stamp of a CDR-serialised message whose first field is a std_msgs/Header.

    Args:
        serialized: The message including its encapsulation header (OMG DDS-RTPS 2.5, section 10.2.1.2: bit 0 of the
            second byte is set for little endian).

    Returns:
        Nanoseconds since the epoch of the stamp's clock.

    Raises:
        ValueError: The message is too short to hold a stamp.
    """
    if len(serialized) < _HEADER_AT + _STAMP_BYTES:
        raise ValueError(f"expected a message with a header (12 bytes at least), got {len(serialized)} bytes")
    byte_order = "<" if serialized[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(byte_order + "iI", serialized, _HEADER_AT)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
