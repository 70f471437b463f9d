"""JPEG and PNG frames: what the header claims is read and judged before anything is decoded."""

from __future__ import annotations

from ros_kd_perception.images.jpeg import check_whole_jpeg, decode_undamaged_jpeg
from ros_kd_perception.images.jpeg_header import read_frame_header
from ros_kd_perception.images.png import PNG_START, check_whole_png, decode_png, png_is_grey, png_size
from ros_kd_perception.structures import BadFrame, UInt8Array

_JPEG_START = b"\xff\xd8\xff"


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
    elif content.startswith(PNG_START):
        found = "png"
    else:
        raise BadFrame("bad_data", f"expected a {codec} file, got {len(content)} bytes that start {content[:8]!r}")
    if found != codec:
        raise BadFrame("bad_data", f"expected {codec} data as the format of the message says, got {found}")
    if found == "png":
        return png_size(content)
    header = read_frame_header(content)
    return header.height, header.width


def is_grey(content: bytes) -> bool:
    """Whether a JPEG or PNG that decodes has one channel, alpha apart."""
    return png_is_grey(content) if content.startswith(PNG_START) else read_frame_header(content).channels == 1


def check_whole(content: bytes) -> None:
    """Refuse a file that is cut off or, in a PNG, damaged: decoders fill in grey and call it an image.

    Args:
        content: a JPEG or PNG with a header that `claimed_size` has read.

    Raises:
        BadFrame: `bad_data`, or `too_large` for a JPEG of more scans than its size allows.
    """
    if content.startswith(PNG_START):
        check_whole_png(content)
    else:
        check_whole_jpeg(content)


def decode_file(content: bytes) -> UInt8Array:
    """Decode a JPEG or PNG: uint8 `[height, width, 3]` BGR.

    Sixteen bits become eight, grey becomes BGR, alpha is dropped. A camera's EXIF orientation is not applied: the
    masks and boxes that we publish belong to the pixels as they were sent.

    Raises:
        BadFrame: `bad_data` where the decoder gives up or, in a JPEG, notices damage. Filler that a camera leaves in
            the scan is none.
    """
    return decode_png(content) if content.startswith(PNG_START) else decode_undamaged_jpeg(content)
