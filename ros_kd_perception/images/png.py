"""PNG frames: the checksums are verified, and what is not part of the picture is left out before it is decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from ros_kd_perception.structures import BadFrame, UInt8Array

PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADER, _END = b"IHDR", b"IEND"
_EXTRA = 0x20  # of the first byte of the name of a chunk that the picture can do without
_COLOUR_TYPE = 25
_GREY_TYPES = (0, 4)


def png_size(content: bytes) -> tuple[int, int]:
    """Height and width in pixels that the header claims.

    Raises:
        BadFrame: `bad_data` for no header.
    """
    if len(content) < 24 or content[12:16] != _HEADER:
        raise BadFrame("bad_data", f"expected a PNG to start with its header, got none in {len(content)} bytes")
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def png_is_grey(content: bytes) -> bool:
    """Whether a PNG has one channel, alpha apart."""
    return content[_COLOUR_TYPE] in _GREY_TYPES


def check_whole_png(content: bytes) -> None:
    """Refuse a PNG that is cut off or of which a checksum does not fit.

    Raises:
        BadFrame: `bad_data`.
    """
    for name, begin, end in _chunks(content):
        if zlib.crc32(content[begin + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
            raise BadFrame("bad_data", f"expected the checksum of the PNG's {name!r} chunk to fit, it does not")


def decode_png(content: bytes) -> UInt8Array:
    """Decode a PNG: uint8 `[height, width, 3]` BGR; sixteen bits become eight, grey becomes BGR, alpha is dropped.

    Raises:
        BadFrame: `bad_data` where the decoder gives up.
    """
    # libpng writes a line to standard error for each profile and text that it finds fault with.
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
    """Name, begin and end of each chunk up to the end chunk.

    Raises:
        BadFrame: `bad_data` for a file that is cut off.
    """
    position, name = len(PNG_START), b""
    while name != _END:
        if position + 12 > len(content):
            raise BadFrame("bad_data", f"expected a PNG with an end chunk, got {len(content)} bytes without: cut off")
        length, name = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            raise BadFrame("bad_data", f"expected a whole PNG, got {len(content)} bytes: cut off")
        yield name, position, end
        position = end
