"""Decode PNG frames: verify the checksums, and remove chunks that are not part of the picture before decoding."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from ros_kd_perception.structures import BadFrame, UInt8Array

PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADER, _END = b"IHDR", b"IEND"
_EXTRA = 0x20  # set in the first byte of a chunk's name if the chunk is not needed for the picture
_COLOUR_TYPE = 25
# Encoders cut a picture into parts of 8 KiB or more. Millions of chunks would hold the interpreter for seconds.
_MAX_CHUNKS = 1 << 16
_GREY_TYPES = (0, 4)

# OpenCV 5 logs a warning for each PNG with missing pixels. Those frames are refused here, and their refusal is logged.
if hasattr(cv2.utils, "logging"):
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def png_size(content: bytes) -> tuple[int, int]:
    """Read height and width, in pixels, from the header.

    Raises:
        BadFrame: `bad_data`, if there is no header.
    """
    if len(content) < 24 or content[12:16] != _HEADER:
        raise BadFrame("bad_data", f"expected a PNG to start with its header, got none in {len(content)} bytes")
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def png_is_grey(content: bytes) -> bool:
    """Return whether a PNG has one channel, not counting alpha."""
    return content[_COLOUR_TYPE] in _GREY_TYPES


def check_whole_png(content: bytes) -> None:
    """Refuse a PNG that is cut off or has a wrong checksum.

    Raises:
        BadFrame: `bad_data`, for the first fault found.
    """
    for name, begin, end in _chunks(content):
        if zlib.crc32(content[begin + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
            raise BadFrame("bad_data", f"expected the checksum of the PNG's {name!r} chunk to fit, it does not")


def decode_png(content: bytes) -> UInt8Array:
    """Decode a PNG. Sixteen bits become eight, grey becomes BGR, alpha is dropped.

    Returns:
        uint8 `[height, width, 3]` BGR.

    Raises:
        BadFrame: `bad_data`, if the decoder fails.
    """
    # Without the optional chunks: libpng writes a line to standard error for each profile or text that it rejects.
    parts = [content[begin:end] for name, begin, end in _chunks(content) if not name[0] & _EXTRA]
    picture = np.frombuffer(PNG_START + b"".join(parts), np.uint8)
    try:
        image = cv2.imdecode(picture, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadFrame("bad_data", f"expected a PNG that decodes, got: {str(error).splitlines()[0][:160]}") from None
    if image is None:
        raise BadFrame("bad_data", f"expected a PNG that decodes, got {len(content)} corrupt bytes")
    return np.asarray(image, np.uint8)


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and end of each chunk up to the end chunk.

    Raises:
        BadFrame: `bad_data`, if the file is cut off or has too many chunks.
    """
    position, name, count = len(PNG_START), b"", 0
    while name != _END:
        count += 1
        if count > _MAX_CHUNKS:
            raise BadFrame("bad_data", f"expected a PNG of at most {_MAX_CHUNKS} chunks, got more")
        if position + 12 > len(content):
            raise BadFrame("bad_data", f"expected a PNG with an end chunk, got {len(content)} bytes without: cut off")
        length, name = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            raise BadFrame("bad_data", f"expected a whole PNG, got {len(content)} bytes: cut off")
        yield name, position, end
        position = end
