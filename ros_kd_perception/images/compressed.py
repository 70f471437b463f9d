"""Decode JPEG and PNG frames. The size in the header is checked before anything is decoded."""

from __future__ import annotations

from ros_kd_perception.images.jpeg import check_whole_jpeg, decode_undamaged_jpeg
from ros_kd_perception.images.jpeg_header import read_frame_header
from ros_kd_perception.images.png import PNG_START, check_whole_png, decode_png, png_is_grey, png_size
from ros_kd_perception.structures import BadFrame, UInt8Array

_JPEG_START = b"\xff\xd8\xff"


def claimed_size(content: bytes, codec: str) -> tuple[int, int]:
    """Read height and width, in pixels, from the header of a JPEG or PNG.

    Args:
        content: The whole file.
        codec: `jpeg` or `png`, from the `format` of the message.

    Raises:
        BadFrame: `bad_data`, if there is no header or it is one of the other codec.
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
    """Return whether a JPEG or PNG has one channel, not counting alpha. The file must be known to decode."""
    return png_is_grey(content) if content.startswith(PNG_START) else read_frame_header(content).channels == 1


def check_whole(content: bytes) -> None:
    """Refuse a file that is cut off, and a PNG with a wrong checksum. Decoders fill missing parts with grey.

    Args:
        content: A JPEG or PNG whose header `claimed_size` has read.

    Raises:
        BadFrame: `bad_data` for an incomplete file, `too_large` for a JPEG with too many scans for its size.
    """
    if content.startswith(PNG_START):
        check_whole_png(content)
    else:
        check_whole_jpeg(content)


def decode_file(content: bytes) -> UInt8Array:
    """Decode a JPEG or PNG.

    Sixteen bits become eight, grey becomes BGR, alpha is dropped. The EXIF orientation is not applied, because the
    published masks and boxes belong to the pixels as they were sent.

    Returns:
        uint8 `[height, width, 3]` BGR.

    Raises:
        BadFrame: `bad_data`, if the decoder fails, or if a JPEG is damaged. Filler bytes that a camera leaves in the
            scan are not damage.
    """
    return decode_png(content) if content.startswith(PNG_START) else decode_undamaged_jpeg(content)
