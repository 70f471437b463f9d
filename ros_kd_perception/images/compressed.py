"""JPEG and PNG frames: what the header claims is read and judged before anything is decoded."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from ros_kd_perception.images.decoder_warnings import extra_bytes, hear
from ros_kd_perception.images.jpeg_filler import extraneous_bytes_are_harmless, without_filler
from ros_kd_perception.images.jpeg_scan import UnreadableScan
from ros_kd_perception.structures import BadFrame, UInt8Array

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = b"\xff\xda"
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset([0x00, 0x01, 0xFF, *range(0xD0, 0xD9)])
# A progressive JPEG has about ten scans; thousands of empty ones would decode for minutes.
_MAX_JPEG_SCANS = 64
# Each scan goes over all pixels: 64 scans of 8192x8192 are 400 kB, and kept a thread busy for half a minute.
_MAX_JPEG_SCANNED_PIXELS = 1 << 28
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
_PNG_COLOUR_TYPE = 25


def claimed_size(content: bytes, codec: str) -> tuple[int, int]:
    """Height and width in pixels that the header of a JPEG or PNG claims, whatever follows it.

    Args:
        content: the file.
        codec: `jpeg` or `png`, as the message says.

    Raises:
        BadFrame: `bad_data` for no header, or that of the other codec.
    """
    if content.startswith(_JPEG_START):
        found = "jpeg"
    elif content.startswith(_PNG_START):
        found = "png"
    else:
        raise BadFrame("bad_data", f"expected a {codec} file, got {len(content)} bytes that start {content[:8]!r}")
    if found != codec:
        raise BadFrame("bad_data", f"expected {codec} data as the format of the message says, got {found}")
    return _jpeg_frame(content)[:2] if found == "jpeg" else _png_size(content)


def is_grey(content: bytes) -> bool:
    """Whether a JPEG or PNG that decodes has one channel, alpha apart."""
    if content.startswith(_PNG_START):
        return content[_PNG_COLOUR_TYPE] in (0, 4)
    return _jpeg_frame(content)[2] == 1


def check_whole(content: bytes) -> None:
    """Refuse a file that is cut off or, in a PNG, damaged: decoders fill in grey and call it an image.

    Args:
        content: a JPEG or PNG with a header that `claimed_size` has read.

    Raises:
        BadFrame: `bad_data`, or `too_large` for a JPEG of more scans than its size allows.
    """
    if content.startswith(_PNG_START):
        _check_png_chunks(content)
        return
    # Past the frame header, for the end of an EXIF thumbnail stands before it; inside a scan 0xff is always followed by
    # a zero or a restart marker, so an end marker there is the end.
    height, width, _, past_header = _jpeg_frame(content)
    if content.rfind(_JPEG_END, past_header) < 0:
        raise BadFrame("bad_data", f"expected a JPEG with an end marker, got {len(content)} bytes without: cut off")
    scans = content.count(_JPEG_SCAN, past_header)
    if scans > _MAX_JPEG_SCANS:
        raise BadFrame("bad_data", f"expected a JPEG of at most {_MAX_JPEG_SCANS} scans, got {scans}")
    if scans * height * width > _MAX_JPEG_SCANNED_PIXELS:
        raise BadFrame(
            "too_large",
            f"expected a JPEG of at most {_MAX_JPEG_SCANNED_PIXELS} px over all its scans, got {scans} scans of "
            f"{width}x{height}",
        )


def decode_file(content: bytes) -> UInt8Array:
    """Decode a JPEG or PNG: uint8 `[height, width, 3]` BGR.

    Sixteen bits become eight, grey becomes BGR, alpha is dropped. A camera's EXIF orientation is not applied: the
    masks and boxes that we publish belong to the pixels as they were sent.

    Raises:
        BadFrame: `bad_data` where the decoder gives up or, in a JPEG, notices damage. Filler that a camera leaves in
            the scan is none.
    """
    image, complaints = _decode(content)
    if complaints and not _is_whole(content, complaints[0]):
        raise BadFrame("bad_data", f"expected an undamaged image, got one of which the decoder says: {complaints[0]}")
    return image


def _decode(content: bytes) -> tuple[UInt8Array, list[str]]:
    try:
        image, complaints = hear(
            lambda: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        )
    except cv2.error as error:
        raise BadFrame("bad_data", f"expected an image that decodes, got: {str(error).splitlines()[0][:160]}") from None
    if image is None:
        raise BadFrame("bad_data", f"expected an image that decodes, got {len(content)} corrupt bytes")
    return np.asarray(image, np.uint8), complaints


def _is_whole(content: bytes, complaint: str) -> bool:
    extra = extra_bytes(complaint)
    if extra is None:
        return False
    try:
        return extraneous_bytes_are_harmless(content)
    except UnreadableScan:
        shorter = without_filler(content, *extra)
        return shorter is not None and not _decode(shorter)[1]


def _jpeg_frame(content: bytes) -> tuple[int, int, int, int]:
    """Height, width, number of channels, and where the segment after the frame header starts."""
    position = 2
    while True:
        # Passed over as the decoder does: fill bytes, and what some IP cameras leave between two segments.
        position = content.find(b"\xff", position)
        if position < 0 or len(content) < position + 4:
            raise BadFrame("bad_data", f"expected a JPEG frame header, got none in {len(content)} bytes")
        marker = content[position + 1]
        if marker in _JPEG_WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", content, position + 2)
        if marker in _JPEG_FRAME_HEADERS and length >= 8 and len(content) >= position + 10:
            height, width, channels = struct.unpack_from(">HHB", content, position + 5)
            return height, width, channels, position + 2 + length
        if length < 2 or marker in _JPEG_FRAME_HEADERS or marker in (0xD9, 0xDA):
            raise BadFrame("bad_data", f"expected a JPEG frame header, got a broken one in {len(content)} bytes")
        position += 2 + length


def _png_size(content: bytes) -> tuple[int, int]:
    if len(content) < 24 or content[12:16] != b"IHDR":
        raise BadFrame("bad_data", f"expected a PNG to start with its header, got none in {len(content)} bytes")
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def _check_png_chunks(content: bytes) -> None:
    position, name = len(_PNG_START), b""
    while name != _PNG_END:
        if position + 12 > len(content):
            raise BadFrame("bad_data", f"expected a PNG with an end chunk, got {len(content)} bytes without: cut off")
        length, name = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            raise BadFrame("bad_data", f"expected a whole PNG, got {len(content)} bytes: cut off")
        if zlib.crc32(content[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise BadFrame("bad_data", f"expected the checksum of the PNG's {name!r} chunk to fit, it does not")
        position = end + 4
