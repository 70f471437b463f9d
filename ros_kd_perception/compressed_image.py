"""JPEG and PNG frames: what the header claims is read and judged before anything is decoded."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from ros_kd_perception.structures import BadFrame, UInt8Array

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = b"\xff\xda"
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])
# A progressive JPEG has about ten scans; thousands of empty ones would decode for minutes.
_MAX_JPEG_SCANS = 64
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"


def compressed_size(data: UInt8Array, declared_format: str) -> tuple[int, int]:
    """Height and width in pixels that the header of a JPEG or PNG claims, after checks that need no decoding.

    Args:
        data: uint8 `[n]`, the file.
        declared_format: `format` of the message, such as `jpeg`, `png` or `rgb8; jpeg compressed bgr8`.

    Raises:
        BadFrame: `unknown_encoding` for another format; `bad_data` for empty, truncated or contradictory data.
    """
    codec = _declared_codec(declared_format)
    content = data.tobytes()
    if content.startswith(_JPEG_START):
        found, size = "jpeg", _jpeg_size(content)
    elif content.startswith(_PNG_START):
        found, size = "png", _png_size(content)
    else:
        raise BadFrame("bad_data", f"expected a {codec} file, got {len(content)} bytes that start {content[:8]!r}")
    if found != codec:
        raise BadFrame("bad_data", f"expected {codec} data as the format {declared_format[:60]!r} says, got {found}")
    return size


def decode_compressed(data: UInt8Array) -> UInt8Array:
    """Decode a JPEG or PNG whose header was accepted: uint8 `[height, width, 3]` BGR.

    Sixteen bits become eight, grey becomes BGR, alpha is dropped. A camera's EXIF orientation is not applied: the
    masks and boxes that we publish belong to the pixels as they were sent.

    Raises:
        BadFrame: `bad_data` where the decoder gives up.
    """
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadFrame("bad_data", f"expected an image that decodes, got: {str(error).splitlines()[0][:160]}") from None
    if image is None:
        raise BadFrame("bad_data", f"expected an image that decodes, got {data.size} corrupt bytes")
    return np.asarray(image, np.uint8)


def _declared_codec(declared_format: str) -> str:
    # image_transport writes "<source encoding>; <codec> compressed <encoding>", most drivers the codec alone.
    words = declared_format.lower().replace(";", " ").split()
    if "jpeg" in words or "jpg" in words:
        return "jpeg"
    if "png" in words and "compresseddepth" not in words:
        return "png"
    raise BadFrame(
        "unknown_encoding", f"expected the format of a compressed image to be jpeg or png, got {declared_format[:60]!r}"
    )


def _jpeg_size(content: bytes) -> tuple[int, int]:
    size = None
    position = 2
    while size is None or content[position : position + 2] != _JPEG_SCAN:
        position, marker = _next_jpeg_marker(content, position)
        if marker in _JPEG_WITHOUT_LENGTH:
            position += 2
            continue
        if position + 4 > len(content) or marker in (0xD9, 0xDA):
            raise BadFrame("bad_data", f"expected a JPEG frame header, got none in {len(content)} bytes")
        (length,) = struct.unpack_from(">H", content, position + 2)
        if marker in _JPEG_FRAME_HEADERS:
            if length < 8 or position + 9 > len(content):
                raise BadFrame("bad_data", "expected a whole JPEG frame header, got a part of one")
            height, width = struct.unpack_from(">HH", content, position + 5)
            size = (height, width)
        position += 2 + max(2, length)
    # Inside a scan 0xff is always followed by a zero or a restart marker, so an end after its start is the end.
    if content.rfind(_JPEG_END, position) < 0:
        raise BadFrame("bad_data", f"expected a JPEG with an end marker, got {len(content)} bytes without: cut off")
    if content.count(_JPEG_SCAN, position) > _MAX_JPEG_SCANS:
        raise BadFrame("bad_data", f"expected a JPEG of at most {_MAX_JPEG_SCANS} scans, got more")
    return size


def _next_jpeg_marker(content: bytes, position: int) -> tuple[int, int]:
    if content[position : position + 1] != b"\xff":
        raise BadFrame(
            "bad_data", f"expected a JPEG marker at byte {position}, got {content[position : position + 2]!r}"
        )
    while content[position + 1 : position + 2] == b"\xff":  # fill bytes
        position += 1
    if position + 1 >= len(content):
        raise BadFrame("bad_data", f"expected a JPEG marker at byte {position}, got the end of the data")
    return position, content[position + 1]


def _png_size(content: bytes) -> tuple[int, int]:
    if len(content) < 33 or content[12:16] != b"IHDR":
        raise BadFrame("bad_data", "expected a PNG to start with its header, got none")
    width, height = struct.unpack_from(">II", content, 16)
    position, name = len(_PNG_START), b""
    while name != _PNG_END:
        if position + 12 > len(content):
            raise BadFrame("bad_data", f"expected a PNG with an end chunk, got {len(content)} bytes without: cut off")
        length, name = struct.unpack_from(">I4s", content, position)
        position += 12 + length
    if position > len(content):
        raise BadFrame("bad_data", f"expected a whole PNG, got {len(content)} bytes: cut off")
    return height, width
