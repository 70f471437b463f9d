"""Tell filler that a camera left in a JPEG's scan from picture data that a damaged scan left over.

Webcams and IP cameras leave bytes between the coded picture and the next marker, and the decoder complains of them. It
complains alike of a scan with wrong bits that came out a few blocks short, and only of the first fault of a file. So it
is shown each segment of the scan by itself, and says of how many bytes its picture has no need. They are filler if

- all of them have one value, or
- most segments have some, or three have and the picture ends in ones in each, as no damage does it, or
- the picture ends in ones, with which encoders fill up its last byte, and what follows does not decode to blocks that
  end with the segment in the same way, as the blocks do that a misread scan left over.

`docs/images_and_bags.md` has what that was measured to let through.
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
"""So many bytes between a scan and the next marker are common to webcams and no sign of damage."""

_STUFFED = re.compile(rb"\xff+\x00")
# Put behind each segment. The decoder reads up to eight bytes ahead, and says nothing of those that it has read when it
# comes to the marker; behind so many more it always says how many bytes it did not use.
_PROBE = bytes(16)
_ENOUGH_SEGMENTS, _ENOUGH_TAILS = 4, 3
# A scan that was misread shortly before its end may not be in step with its codes yet: any block of an MCU may come
# next, and begin a few bits on. A long tail is in step by its own end.
_STARTS = 8
_MAX_TAIL_OF_MANY_STARTS = 256
# Of filler that is not of one value: following codes takes the time of all threads, 0.2 microseconds a byte.
_MAX_TAIL = 1 << 14


@dataclass(frozen=True)
class _Segment:
    """A segment of so many MCUs, and how many bytes at its end the picture does not need."""

    data: bytes
    mcus: int
    unused: int

    @property
    def tail(self) -> bytes:
        """What the picture does not need, without the zeros that stuff it."""
        return _STUFFED.sub(b"\xff", self.data[len(self.data) - self.unused :])

    @property
    def last_byte(self) -> int:
        """The last byte of the picture."""
        end = len(self.data) - self.unused
        return 0xFF if self.data[end - 2 : end] == b"\xff\x00" else self.data[end - 1]

    def with_last_byte(self, value: int) -> bytes:
        """The segment with another last byte of the picture, where that is not 0xff."""
        end = len(self.data) - self.unused
        return self.data[: end - 1] + (b"\xff\x00" if value == 0xFF else bytes([value])) + self.data[end:]


def extraneous_bytes_are_harmless(content: bytes) -> bool:
    """Whether all that the decoder did not use of a JPEG's scan is filler.

    Args:
        content: a JPEG that decodes.

    Raises:
        UnreadableScan: it is not baseline or of several scans; cameras send baseline JPEGs of one scan.
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
    """The file without the first so many bytes of one value that stand before such a marker; None where there are none.

    Serves JPEGs of several scans or of another coding, whose segments are not looked at.
    """
    found = re.search(rb"(.)\1{%d}(?=%s)" % (count - 1, re.escape(bytes([0xFF, marker]))), content, re.DOTALL)
    return None if found is None else content[: found.start()] + content[found.end() :]


def _unused(scan: Scan) -> list[int] | None:
    """How many bytes of each segment its picture does not need; None for damage."""
    probes = [scan.file_of(data + _PROBE, mcus) for data, mcus in scan.segments]
    counts = [extra_bytes(complaint_of(probe)) for probe in probes]
    unused = [found[0] - len(_PROBE) if found else -1 for found in counts]
    return unused if min(unused) >= 0 else None


def _ends_in_ones(scan: Scan, segment: _Segment) -> bool:
    """Whether the bits that the picture leaves of its last byte are ones: whether it needs the last zero in there."""
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
    """Whether what follows the picture decodes to blocks that end with the segment."""
    data = bytes([segment.last_byte]) + segment.tail
    # The picture ends before the ones at the end of its last byte, or after one of them.
    first = 8 - ones_at_the_end(segment.last_byte)
    if len(data) > _MAX_TAIL_OF_MANY_STARTS:
        return any(end_like_a_picture(data, start, blocks) for start in range(first, 9))
    return any(
        end_like_a_picture(data, start, [*blocks[phase:], *blocks[:phase]])
        for phase in range(len(blocks))
        for start in range(first, 8 + _STARTS)
    )
