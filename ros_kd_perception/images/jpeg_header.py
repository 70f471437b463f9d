"""Read and repair the header of a JPEG, which is the marker segments before its first scan."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ros_kd_perception.structures import BadFrame

START, END, SCAN = 0xD8, 0xD9, 0xDA
BASELINE_FRAMES = (0xC0, 0xC1)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])
MAX_SEGMENTS = 1024
"""Cameras write some ten. A file of millions would hold the interpreter for seconds."""
_JFIF, _ADOBE = 0xE0, 0xEE
_ADOBE_TRANSFORM = 11
_SPECTRUM_OF_BASELINE = bytes([0, 63, 0])


@dataclass(frozen=True)
class FrameHeader:
    """The frame header of a JPEG. The data behind it may contradict it.

    Attributes:
        height: Height of the picture, pixels.
        width: Width of the picture, pixels.
        channels: Number of colour components.
        end: Position of the first byte behind this header.
    """

    height: int
    width: int
    channels: int
    end: int


def read_frame_header(content: bytes) -> FrameHeader:
    """Read the first frame header.

    Raises:
        BadFrame: `bad_data`, if there is no complete frame header before the first scan.
    """
    marker, body, position = 0, b"", 2
    try:
        segments = segments_of(content)
        while marker not in _FRAMES:
            marker, body, position = next(segments)
            if marker in (END, SCAN):
                raise ValueError("no frame header before the first scan")
        height, width, channels = struct.unpack_from(">HHB", body, 1)
    except (IndexError, ValueError, struct.error):
        raise BadFrame(
            "bad_data", f"expected a JPEG frame header, got none or a broken one in {len(content)} bytes"
        ) from None
    return FrameHeader(height, width, channels, position)


def segments_of(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield the marker segments of a JPEG in order. Skip bytes before them, as decoders do.

    Yields:
        Marker, body, and the position of the end of each. Take none behind the header of a scan.

    Raises:
        IndexError: The file ends.
        ValueError: There is no further marker, or there are more than `MAX_SEGMENTS`.
        struct.error: The file ends inside the length field.
    """
    position = 2
    for _ in range(MAX_SEGMENTS):
        segment = _next_segment(content, position)
        position = segment[2]
        yield segment
    raise ValueError(f"more than {MAX_SEGMENTS} segments before the first scan")


def _next_segment(content: bytes, position: int) -> tuple[int, bytes, int]:
    while True:
        position = content.index(0xFF, position) + 1
        marker = content[position]
        if marker not in (0, 0xFF) and marker not in _WITHOUT_LENGTH:
            (length,) = struct.unpack_from(">H", content, position + 1)
            end = position + 1 + length
            return marker, content[position + 3 : end], end


def write_segment(marker: int, body: bytes) -> bytes:
    """Return the bytes of a marker segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_tidy_header(content: bytes) -> bytes:
    """Repair harmless faults of a header.

    The decoder reports only the first fault of a file. A harmless fault in the header would hide damage behind it. This
    removes filler between segments, and replaces a JFIF version, an Adobe transform or a spectral selection of a
    baseline scan that the decoder does not know.

    Args:
        content: A JPEG with a frame header.

    Returns:
        A file of the same picture; `content` itself if the header has no such fault or no scan follows it.
    """
    channels = read_frame_header(content).channels
    segments, marker, is_baseline, position = [content[:2]], 0, False, 2
    try:
        found = segments_of(content)
        while marker != SCAN:
            marker, body, position = next(found)
            is_baseline |= marker in BASELINE_FRAMES
            segments.append(write_segment(marker, _tidy(marker, body, channels, is_baseline)))
    except (IndexError, ValueError, struct.error):
        return content
    return b"".join(segments) + content[position:]


def _tidy(marker: int, body: bytes, channels: int, is_baseline: bool) -> bytes:
    if marker == _JFIF and body.startswith(b"JFIF\0"):
        return body[:5] + b"\x01" + body[6:]
    if marker == _ADOBE and body.startswith(b"Adobe") and body[_ADOBE_TRANSFORM : _ADOBE_TRANSFORM + 1] > b"\x02":
        return body[:_ADOBE_TRANSFORM] + (b"\x02" if channels == 4 else b"\x01") + body[_ADOBE_TRANSFORM + 1 :]
    if marker == SCAN and is_baseline:
        return body[:-3] + _SPECTRUM_OF_BASELINE
    return body
