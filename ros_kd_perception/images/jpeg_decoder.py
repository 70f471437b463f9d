"""Decode JPEGs with simplejpeg and report damage; without simplejpeg, decode with OpenCV, which does not report it.

A JPEG with wrong bits in its scan decodes to garbage. OpenCV returns the garbage as a picture and writes one line to
standard error. simplejpeg returns that line together with the picture. This is the only module that imports simplejpeg.
"""

from __future__ import annotations

import re
import warnings
from functools import cache

import cv2
import numpy as np

from ros_kd_perception.images.jpeg_header import read_frame_header
from ros_kd_perception.structures import BadFrame, UInt8Array

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

_EXTRA_BYTES = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]+)")


def decode_jpeg(content: bytes) -> tuple[UInt8Array, str]:
    """Decode a JPEG without applying its EXIF orientation.

    Args:
        content: A JPEG with a frame header. Check the size that it claims before: that much memory is allocated.

    Returns:
        uint8 `[height, width, 3]` BGR, and the first complaint of the decoder, empty if it has none. If `extra_bytes`
        reads the complaint, the picture is what the decoder read. With any other complaint its values mean nothing.

    Raises:
        BadFrame: `bad_data`, without a frame header or if OpenCV decodes and fails.
    """
    header = read_frame_header(content)
    if simplejpeg is None:
        _warn_once()
        return _decode_with_opencv(content), ""
    image = np.empty((header.height, header.width, 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(content, "BGR", buffer=image)
    except ValueError as error:
        return image, str(error)
    return image, ""


def _decode_with_opencv(content: bytes) -> UInt8Array:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise BadFrame("bad_data", f"expected a JPEG, got {len(content)} bytes that OpenCV does not decode")
    return np.asarray(image, np.uint8)


@cache
def _warn_once() -> None:
    warnings.warn(
        "expected the Python package simplejpeg, found none: JPEGs that are cut off are refused, but other damage "
        "is not noticed; install it: python -m pip install simplejpeg",
        RuntimeWarning,
        stacklevel=2,
    )


def complaint_of(content: bytes) -> str:
    """Return the first complaint of simplejpeg, empty if it has none, in half the time of `decode_jpeg`."""
    try:
        simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return ""


def extra_bytes(complaint: str) -> tuple[int, int] | None:
    """Return the number of extra bytes and the marker behind them; None for a complaint about something else."""
    found = _EXTRA_BYTES.fullmatch(complaint)
    return None if found is None else (int(found[1]), int(found[2], 16))
