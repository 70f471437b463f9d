"""Distinguish filler bytes in the scan of a JPEG from picture data that a damaged scan leaves over.

Webcams and IP cameras leave filler bytes between the coded picture and the next marker. The decoder complains about
them. It makes the same complaint about a scan with wrong bits that ends a few blocks early, and it reports only the
first fault of a file. So each segment of the scan is decoded on its own, which gives the number of bytes that its
picture does not use. Unused bytes are filler if

- they all have the same value, or
- most segments have some, or
- at least three segments have some, and in each of them the picture ends in ones. Encoders fill the last byte with
  ones; damage does not, or
- the picture ends in ones, and the unused bytes do not decode to blocks that end with the segment in ones. The blocks
  that a misread scan leaves over do.

`docs/images_and_bags.md` says how much damage this lets through.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ros_kd_perception.images.jpeg_blocks import BlockTables, end_like_a_picture, huffman_table, ones_at_the_end
from ros_kd_perception.images.jpeg_decoder import complaint_of, decode_jpeg, extra_bytes
from ros_kd_perception.images.jpeg_scan import Scan, read_scan
from ros_kd_perception.structures import BadFrame

FEW_EXTRA_BYTES = 3
"""Webcams leave up to this many bytes between a scan and the next marker. They are not a sign of damage."""

_STUFFED = re.compile(rb"(?<!\xff)\xff+\x00")  # from the start of a run on, else each of its bytes is a start
# Appended to each segment. The decoder reads up to eight bytes ahead and does not report bytes that it has already read
# when it reaches the marker. With 16 more bytes it always reports how many it did not use.
_PROBE = bytes(16)
_ENOUGH_SEGMENTS, _ENOUGH_TAILS = 4, 3
# A scan that was misread shortly before its end may not be synchronised with its codes again: any block of an MCU may
# come next, and begin a few bits later. A long tail synchronises before its end.
_STARTS = 8
_MAX_TAIL_OF_MANY_STARTS = 256
# Limit for filler with different values. Following codes takes 0.2 microseconds a byte, and holds the interpreter.
_MAX_TAIL = 1 << 14


@dataclass(frozen=True)
class _Segment:
    """A segment of the scan: its bytes, its number of MCUs, and how many bytes at its end the picture does not use."""

    data: bytes
    mcus: int
    unused: int

    @property
    def tail(self) -> bytes:
        """The bytes that the picture does not use, without stuffed zeros."""
        return _STUFFED.sub(b"\xff", self.data[len(self.data) - self.unused :])

    @property
    def last_byte(self) -> int:
        """The last byte of the picture."""
        end = len(self.data) - self.unused
        return 0xFF if self.data[end - 2 : end] == b"\xff\x00" else self.data[end - 1]

    def with_last_byte(self, value: int) -> bytes:
        """Return the segment with the last byte of the picture replaced. That byte must not be 0xff."""
        end = len(self.data) - self.unused
        return self.data[: end - 1] + (b"\xff\x00" if value == 0xFF else bytes([value])) + self.data[end:]


def extraneous_bytes_are_harmless(content: bytes) -> bool:
    """Return whether all bytes of the scan that the decoder did not use are filler.

    Args:
        content: A JPEG that decodes.

    Raises:
        UnreadableScan: The JPEG is not baseline or has several scans. Cameras send baseline JPEGs with one scan.
    """
    scan = read_scan(content)
    try:
        unused = _unused(scan)
        if unused is None:
            return False
        segments = [_Segment(*segment, size) for segment, size in zip(scan.segments, unused, strict=True) if size]
        if len(unused) >= _ENOUGH_SEGMENTS and 2 * len(segments) > len(unused):
            return True
        if len(segments) >= _ENOUGH_TAILS and all(_ends_in_ones(scan, segment) for segment in segments):
            return True
        return all(_is_filler(scan, segment) for segment in segments)
    except (BadFrame, struct.error, KeyError, ValueError):
        return False


def without_filler(content: bytes, count: int, marker: int) -> bytes | None:
    """Remove a run of equal bytes before a marker. Used for JPEGs whose scan `read_scan` cannot split.

    Args:
        content: The JPEG.
        count: Length of the run, bytes.
        marker: Second byte of the marker behind the run.

    Returns:
        The file without the first such run. None if there is none.
    """
    wanted = bytes([0xFF, marker])
    begin, end = 0, content.find(wanted)
    while end >= 0:
        first = end - count
        # A run holds no marker, so it begins behind the marker before. Each byte is compared once: a regular expression
        # takes the length of the run for every byte of any longer run in the file, up to minutes.
        if first >= begin and content[first:end] == content[first : first + 1] * count:
            return content[:first] + content[end:]
        begin, end = end + 1, content.find(wanted, end + 1)
    return None


def _unused(scan: Scan) -> list[int] | None:
    """Return how many bytes of each segment its picture does not use. None if a segment is damaged."""
    probes = [scan.file_of(data + _PROBE, mcus) for data, mcus in scan.segments]
    counts = [extra_bytes(complaint_of(probe)) for probe in probes]
    unused = [found[0] - len(_PROBE) if found else -1 for found in counts]
    return unused if min(unused) >= 0 else None


def _ends_in_ones(scan: Scan, segment: _Segment) -> bool:
    """Return whether the unused bits of the picture's last byte are ones: whether it uses the last zero bit."""
    byte = segment.last_byte
    if byte == 0xFF:
        return True
    probes = [segment.data + _PROBE, segment.with_last_byte(byte | (byte + 1)) + _PROBE]
    (image_of_zero, complaint_of_zero), (image_of_one, complaint_of_one) = (
        decode_jpeg(scan.file_of(probe, segment.mcus)) for probe in probes
    )
    return complaint_of_zero != complaint_of_one or not np.array_equal(image_of_zero, image_of_one)


def _is_filler(scan: Scan, segment: _Segment) -> bool:
    tail = segment.tail
    if len(tail) <= FEW_EXTRA_BYTES or tail.count(tail[0]) == len(tail):
        return True
    if len(tail) > _MAX_TAIL:
        return False
    blocks = [(huffman_table(scan.tables[dc], True), huffman_table(scan.tables[ac], False)) for dc, ac in scan.blocks]
    return _ends_in_ones(scan, segment) and not _holds_blocks(segment, blocks)


def _holds_blocks(segment: _Segment, blocks: Sequence[BlockTables]) -> bool:
    """Return whether the bytes behind the picture decode to blocks that end with the segment."""
    data = bytes([segment.last_byte]) + segment.tail
    # The picture ends before the ones at the end of its last byte, or behind one of them.
    first = 8 - ones_at_the_end(segment.last_byte)
    if len(data) > _MAX_TAIL_OF_MANY_STARTS:
        return any(end_like_a_picture(data, start, blocks) for start in range(first, 9))
    return any(
        end_like_a_picture(data, start, [*blocks[phase:], *blocks[:phase]])
        for phase in range(len(blocks))
        for start in range(first, 8 + _STARTS)
    )
