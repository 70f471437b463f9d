"""Split the scan of a baseline JPEG at its restart markers, and make a JPEG file of each segment."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ros_kd_perception.images.jpeg_header import BASELINE_FRAMES, END, SCAN, START, segments_of, write_segment

# From the start of a run of 0xff on. Else each of its bytes is a start, and 100 kB of them take a minute.
_SEGMENT_END = re.compile(rb"(?<!\xff)\xff+([\xd0-\xd7])")
_SCAN_END = re.compile(rb"(?<!\xff)\xff+[^\x00\xff\xd0-\xd7]")
_START, _END, _RESTART = bytes([0xFF, START]), bytes([0xFF, END]), b"\xff\xd0"
_HUFFMAN_TABLES, _QUANTISATION_TABLES, _RESTART_INTERVAL = 0xC4, 0xDB, 0xDD
_BLOCK_PX = 8
# The decoder takes at least 40 microseconds for a segment. A picture of 1920x1080 px has 8160 MCUs.
_MAX_SEGMENTS = 8192
_MAX_SEGMENT_MCUS = 0xFFFF  # of a restart interval
# All tables that a baseline scan can use have less than 3 kB. They are copied and read again for each segment.
_MAX_TABLE_BYTES = 1 << 13

TableKey = tuple[int, int]
"""Class (0 DC, 1 AC) and number of a Huffman table."""


class UnreadableScan(ValueError):
    """A JPEG that is not baseline, has several scans, or contradicts its header."""


@dataclass(frozen=True)
class Scan:
    """A baseline scan of all components. An MCU is the smallest coded unit, one or more 8x8 blocks a component.

    Attributes:
        segments: For each part between two restart markers, its bytes as in the file and its number of MCUs.
        blocks: Keys of the DC and the AC table for each block of an MCU.
        tables: Huffman tables as in the file: sixteen counts of codes by length, then the values.
    """

    segments: list[tuple[bytes, int]]
    blocks: list[tuple[TableKey, TableKey]]
    tables: dict[TableKey, bytes]
    _frame: bytes
    _frame_tables: bytes
    _scan_header: bytes

    def file_of(self, data: bytes, mcus: int) -> bytes:
        """Return a JPEG file that holds one segment.

        An empty segment of the same size follows it, because the decoder counts unused bytes when it begins the next
        segment.

        Args:
            data: The coded bytes of the segment.
            mcus: Number of MCUs in it.

        Raises:
            struct.error: The MCUs do not fit into a picture.
        """
        (mcu_height, mcu_width), across, _ = _mcus(self._frame)
        columns, rows = (across, mcus // across) if mcus % across == 0 else (mcus, 1)
        size = struct.pack(">HH", 2 * rows * mcu_height, columns * mcu_width)
        return b"".join(
            (
                _START,
                self._frame_tables,
                write_segment(_RESTART_INTERVAL, struct.pack(">H", mcus)),
                write_segment(BASELINE_FRAMES[1], self._frame[:1] + size + self._frame[5:]),
                self._scan_header,
                data,
                _RESTART,
                _END,
            )
        )


def read_scan(content: bytes) -> Scan:
    """Read the scan of a JPEG with its tables.

    Raises:
        UnreadableScan: The file is not a baseline JPEG with one scan.
    """
    try:
        return _read_scan(content)
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise UnreadableScan(f"expected a baseline JPEG of one scan, got: {error}") from None


def _read_scan(content: bytes) -> Scan:
    tables, frame_tables, frame, interval, marker, position = dict(_standard_tables()), b"", b"", 0, 0, 2
    found = segments_of(content)
    while marker != SCAN:
        marker, body, position = next(found)
        if marker in (_HUFFMAN_TABLES, _QUANTISATION_TABLES):
            frame_tables += write_segment(marker, body)
            if len(frame_tables) > _MAX_TABLE_BYTES:
                raise ValueError(f"tables of over {_MAX_TABLE_BYTES} bytes")
        if marker == _HUFFMAN_TABLES:
            tables.update(_split_tables(body))
        elif marker in BASELINE_FRAMES:
            frame = body
        elif marker == _RESTART_INTERVAL:
            (interval,) = struct.unpack(">H", body)
    mcus = _mcus(frame)[2]
    segments = _split_scan(content, position, mcus, interval or mcus)
    return Scan(segments, _blocks(frame, body), tables, frame, frame_tables, write_segment(SCAN, body))


def _sampling(frame: bytes) -> dict[int, tuple[int, int]]:
    """Return the blocks across and down an MCU for each component number."""
    count = frame[5]
    if count == 1:  # a single component is coded block by block, whatever its sampling factors
        return {frame[6]: (1, 1)}
    return {frame[6 + 3 * i]: divmod(frame[7 + 3 * i], 16) for i in range(count)}


def _mcus(frame: bytes) -> tuple[tuple[int, int], int, int]:
    """Return height and width of an MCU in pixels, the number of MCUs in a row, and the number in total."""
    height, width = struct.unpack_from(">HH", frame, 1)
    mcu_width, mcu_height = (_BLOCK_PX * max(factors) for factors in zip(*_sampling(frame).values(), strict=True))
    across = -(-width // mcu_width)
    return (mcu_height, mcu_width), across, across * -(-height // mcu_height)


def _blocks(frame: bytes, scan: bytes) -> list[tuple[TableKey, TableKey]]:
    count, sampling = frame[5], _sampling(frame)
    if scan[0] != count:
        raise ValueError("a scan of some components")
    blocks = []
    for component, chosen in zip(scan[1 : 2 * count + 1 : 2], scan[2 : 2 * count + 2 : 2], strict=True):
        across, down = sampling[component]
        blocks += [((0, chosen >> 4), (1, chosen & 15))] * (across * down)
    return blocks


def _split_scan(content: bytes, start: int, mcus: int, interval: int) -> list[tuple[bytes, int]]:
    scan = content[start:]
    found = _SCAN_END.search(scan)
    count = -(-mcus // interval)
    if found is None or count > _MAX_SEGMENTS or interval > _MAX_SEGMENT_MCUS:
        raise ValueError(f"a scan without end, of over {_MAX_SEGMENTS} segments, or {_MAX_SEGMENT_MCUS} MCUs in one")
    parts = _SEGMENT_END.split(scan[: found.start()])
    segments, numbers = parts[::2], parts[1::2]
    if len(segments) != count or any(n[0] & 7 != i % 8 for i, n in enumerate(numbers)):
        raise ValueError("a restart marker out of its place")
    counts = [min(interval, mcus - first) for first in range(0, mcus, interval)]
    return list(zip(segments, counts, strict=True))


def _split_tables(body: bytes) -> dict[TableKey, bytes]:
    tables = {}
    while body:
        size = 17 + sum(body[1:17])
        tables[body[0] >> 4, body[0] & 15] = body[1:size]
        body = body[size:]
    return tables


@lru_cache(maxsize=1)
def _standard_tables() -> dict[TableKey, bytes]:
    # Motion JPEG of webcams leaves out the tables of the standard. OpenCV's encoder writes these tables.
    content = bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1])
    tables: dict[TableKey, bytes] = {}
    for marker, body, _ in segments_of(content):
        if marker == _HUFFMAN_TABLES:
            tables.update(_split_tables(body))
        if marker == SCAN:
            break
    return tables
