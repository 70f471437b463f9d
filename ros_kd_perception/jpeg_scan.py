"""Tell filler that a camera left in a JPEG's scan from picture data that a damaged scan left over.

Webcams and IP cameras leave bytes between the coded picture and the next marker, and the decoder complains of them. It
complains alike of a scan with wrong bits that came out a few blocks short. So the Huffman codes are followed here, to
the bit where the last block of each segment ends. What stands behind it is filler if

- all of it is one byte value, or
- most segments have something there, or three have and the picture ends in ones in each, as no damage does it, or
- the picture ends in ones, with which encoders fill up the last byte, and what follows does not decode to blocks that
  end with the segment in the same way, as the blocks do that a misread scan left over.

`docs/images_and_bags.md` has what that was measured to let through.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

_SEGMENT_END = re.compile(rb"\xff+([\xd0-\xd7])")
_SCAN_END = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_STUFFED = re.compile(rb"\xff+\x00")
_HUFFMAN_TABLES, _RESTART_INTERVAL, _SCAN, _BASELINE_FRAMES = 0xC4, 0xDD, 0xDA, (0xC0, 0xC1)
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])
_BLOCK_COEFFICIENTS = 64
# A symbol takes a third of a microsecond: a scan of this size a fifth of a second.
_MAX_SCAN_BYTES = 1 << 19
_FEW_EXTRA_BYTES = 3
_ENOUGH_SEGMENTS, _ENOUGH_TAILS = 4, 3
# A scan that was misread shortly before its end may not be in step with its codes yet: any block of an MCU may come
# next, and begin a few bits on. A long tail is in step by its own end.
_STARTS = 8
_MAX_TAIL_OF_MANY_STARTS = 256

_Table = list[int]
_BlockTables = tuple[_Table, _Table]


@dataclass(frozen=True)
class _Scan:
    """Unstuffed bytes and number of MCUs of each segment, and the tables of the blocks of one MCU: DC, AC."""

    segments: list[tuple[bytes, int]]
    blocks: list[_BlockTables]


@dataclass(frozen=True)
class _Segment:
    """Unstuffed bytes, and the bit behind the last block of the picture."""

    data: bytes
    end: int

    @property
    def tail(self) -> bytes:
        """What the picture does not need."""
        return self.data[-(-self.end // 8) :]

    @property
    def ends_in_ones(self) -> bool:
        """Whether the bits that the picture leaves of its last byte are ones."""
        unused = (1 << -self.end % 8) - 1
        return self.data[(self.end - 1) // 8] & unused == unused


def extraneous_bytes_are_harmless(content: bytes) -> bool:
    """Whether all that the decoder did not use of a JPEG's scan is filler; False also where that cannot be told.

    Reads baseline JPEGs of one scan, which is what cameras send.

    Args:
        content: a JPEG that decodes.
    """
    try:
        scan = _read_scan(content)
    except (IndexError, KeyError, ValueError, struct.error):
        return False
    segments = []
    for data, mcus in scan.segments:
        end = _follow(data, scan.blocks, mcus)
        if end is None:
            return False
        segments.append(_Segment(data, end))
    left_over = [segment for segment in segments if segment.tail]
    if len(segments) >= _ENOUGH_SEGMENTS and 2 * len(left_over) > len(segments):
        return True
    if len(left_over) >= _ENOUGH_TAILS and all(segment.ends_in_ones for segment in left_over):
        return True
    return all(_is_filler(segment, scan.blocks) for segment in left_over)


def without_filler(content: bytes, count: int, marker: int) -> bytes | None:
    """The file without the first so many bytes of one value that stand before such a marker; None where there are none.

    Serves JPEGs of several scans or of another coding, which are not followed here.
    """
    found = re.search(rb"(.)\1{%d}(?=%s)" % (count - 1, re.escape(bytes([0xFF, marker]))), content, re.DOTALL)
    return None if found is None else content[: found.start()] + content[found.end() :]


def _is_filler(segment: _Segment, blocks: list[_BlockTables]) -> bool:
    data, tail, end = segment.data, segment.tail, segment.end
    if len(tail) <= _FEW_EXTRA_BYTES or tail.count(tail[0]) == len(tail):
        return True
    if not segment.ends_in_ones:
        return False
    if len(tail) > _MAX_TAIL_OF_MANY_STARTS:
        return not _ends_like_a_picture(data, end, blocks)
    return not any(
        _ends_like_a_picture(data, start, blocks[phase:] + blocks[:phase])
        for phase in range(len(blocks))
        for start in range(end, end + _STARTS)
    )


def _ends_like_a_picture(data: bytes, start: int, blocks: list[_BlockTables]) -> bool:
    """Whether blocks that begin at this bit end so near the end of the segment that only ones follow."""
    ones = (data[-1] ^ 0xFF) & -(data[-1] ^ 0xFF)  # the lowest zero
    nearest = 8 * len(data) - min(7, ones.bit_length() - 1 if ones else 8)
    words, total, position, number = _words(data), 8 * len(data), start, 0
    while True:
        after = _after_block(words, position, total, *blocks[number % len(blocks)])
        if after is None:
            return False
        if after >= nearest:
            return True
        position, number = after, number + 1


def _follow(data: bytes, blocks: list[_BlockTables], mcus: int) -> int | None:
    """The bit behind the last block of a segment; None where its codes or its data do not do."""
    words, total, position = _words(data), 8 * len(data), 0
    for _ in range(mcus):
        for dc, ac in blocks:
            after = _after_block(words, position, total, dc, ac)
            if after is None:
                return None
            position = after
    return position


def _after_block(words: list[int], position: int, total: int, dc: _Table, ac: _Table) -> int | None:
    step = dc[words[position >> 3] >> 16 - (position & 7) & 0xFFFF]
    if not step:
        return None
    position += step >> 8
    coefficient = 1
    while coefficient < _BLOCK_COEFFICIENTS and position <= total:
        step = ac[words[position >> 3] >> 16 - (position & 7) & 0xFFFF]
        if not step:
            return None
        position += step >> 8
        coefficient += step & 0xFF
    return position if position <= total else None


def _words(data: bytes) -> list[int]:
    """The 32 bits that begin at each byte; ones follow the last."""
    padded = np.frombuffer(data + b"\xff" * 8, np.uint8).astype(np.uint32)
    words: list[int] = (padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]).tolist()
    return words


def _read_scan(content: bytes) -> _Scan:
    """Read what a scan is coded with.

    Raises:
        ValueError, KeyError, IndexError, struct.error: a JPEG of another kind, or one that is not sound.
    """
    tables, frame, interval, marker, position = dict(_standard_tables()), b"", 0, 0, 2
    while marker != _SCAN:
        marker, body, position = _next_segment(content, position)
        if marker == _HUFFMAN_TABLES:
            tables.update(_split_tables(body))
        elif marker in _BASELINE_FRAMES:
            frame = body
        elif marker == _RESTART_INTERVAL:
            (interval,) = struct.unpack(">H", body)
    blocks, mcus = _layout(frame, body, tables)
    return _Scan(_split_scan(content, position, mcus, interval or mcus), blocks)


def _layout(frame: bytes, scan: bytes, tables: dict[tuple[int, int], bytes]) -> tuple[list[_BlockTables], int]:
    """Tables of the blocks of one MCU, and how many MCUs there are."""
    _, height, width, count = struct.unpack_from(">BHHB", frame)
    sampling = {frame[6 + 3 * i]: divmod(frame[7 + 3 * i], 16) for i in range(count)}
    if scan[0] != count:
        raise ValueError("expected one scan of all components")
    blocks: list[_BlockTables] = []
    for component, chosen in zip(scan[1 : 2 * count + 1 : 2], scan[2 : 2 * count + 2 : 2], strict=True):
        pair = (_table(tables[0, chosen >> 4], True), _table(tables[1, chosen & 15], False))
        blocks += [pair] * (sampling[component][0] * sampling[component][1])
    if count == 1:  # a component alone goes block by block, whatever its sampling
        return blocks[:1], -(-width // 8) * -(-height // 8)
    across, down = (max(factors) for factors in zip(*sampling.values(), strict=True))
    return blocks, -(-width // (8 * across)) * -(-height // (8 * down))


def _next_segment(content: bytes, position: int) -> tuple[int, bytes, int]:
    """Marker, body and end of the next marker segment; bytes that stand before it are passed over."""
    while True:
        position = content.index(0xFF, position) + 1
        marker = content[position]
        if marker not in (0, 0xFF) and marker not in _WITHOUT_LENGTH:
            (length,) = struct.unpack_from(">H", content, position + 1)
            end = position + 1 + length
            return marker, content[position + 3 : end], end


def _split_scan(content: bytes, start: int, mcus: int, interval: int) -> list[tuple[bytes, int]]:
    found = _SCAN_END.search(content, start)
    if found is None or found.start() - start > _MAX_SCAN_BYTES:
        raise ValueError("expected a scan of moderate size that ends")
    parts = _SEGMENT_END.split(content[start : found.start()])
    segments, numbers = parts[::2], parts[1::2]
    if len(segments) != -(-mcus // interval) or any(n[0] & 7 != i % 8 for i, n in enumerate(numbers)):
        raise ValueError("expected every restart marker in its place")
    counts = [min(interval, mcus - first) for first in range(0, mcus, interval)]
    return [(_STUFFED.sub(b"\xff", data), count) for data, count in zip(segments, counts, strict=True)]


def _split_tables(body: bytes) -> dict[tuple[int, int], bytes]:
    """Tables of a segment by class (0 DC, 1 AC) and number: sixteen counts by length, then the values."""
    tables = {}
    while body:
        size = 17 + sum(body[1:17])
        tables[body[0] >> 4, body[0] & 15] = body[1:size]
        body = body[size:]
    return tables


@lru_cache(maxsize=1)
def _standard_tables() -> dict[tuple[int, int], bytes]:
    # A webcam that sends motion JPEG leaves the standard's tables out; OpenCV's encoder uses the same.
    content = bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1])
    tables: dict[tuple[int, int], bytes] = {}
    marker, position = 0, 2
    while marker != _SCAN:
        marker, body, position = _next_segment(content, position)
        if marker == _HUFFMAN_TABLES:
            tables.update(_split_tables(body))
    return tables


@lru_cache(maxsize=8)
def _table(coded: bytes, is_dc: bool) -> _Table:
    """For each 16 bits that may come: bits of the code and its value times 256, plus coefficients; 0 for no code."""
    table, position = [0] * (1 << 16), 0
    lengths = (length for length, count in enumerate(coded[:16], 1) for _ in range(count))
    for value, length in zip(coded[16:], lengths, strict=False):
        bits, span = length + (value if is_dc else value & 15), 1 << 16 - length
        if position + span > 1 << 16:
            raise ValueError("expected no more codes than there is room for")
        table[position : position + span] = [bits << 8 | _advance(value)] * span
        position += span
    return table


def _advance(value: int) -> int:
    """Coefficients that an AC symbol covers: a run of zeros and the one behind it, sixteen zeros, or all the others."""
    run, size = divmod(value, 16)
    return run + 1 if size or run == 15 else _BLOCK_COEFFICIENTS
