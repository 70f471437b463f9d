"""Convert raw image encodings to BGR with as few copies as possible.

Encodings are named as in ROS (`sensor_msgs/image_encodings.hpp`). Two names are easy to confuse:

- A Bayer encoding of ROS names the first two pixels of the first row, then those of the second row. OpenCV's two-letter
  names start one pixel further down and right, so `bayer_rggb8` is OpenCV's `BayerBG`.
- 4:2:2 has old and new names: `yuv422` is `uyvy`, `yuv422_yuy2` is `yuyv`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import cv2
import numpy as np

from ros_kd_perception.structures import BadFrame, UInt8Array

_MEASUREMENT = re.compile(r"(?:16[US]|32[SF]|64F)C1?", re.IGNORECASE)
# OpenCV returns a black image for a Bayer mosaic smaller than one interpolation neighbourhood.
_SMALLEST_MOSAIC_PX = 3


@dataclass(frozen=True)
class PixelFormat:
    """Memory layout of one encoding.

    Attributes:
        bytes_per_pixel: Bytes per pixel in the first plane; 2 for 4:2:2.
        conversion: OpenCV's conversion code to BGR, or None if the bytes are already BGR.
        even_width: Whether horizontal pairs of pixels share colour, so that the width must be even.
        half_size_chroma: Whether a second plane of half as many rows follows (4:2:0). The height must be even then.
        high_byte_only: Whether each sample has two bytes, of which only the more significant one is kept.
    """

    bytes_per_pixel: int
    conversion: int | None = None
    even_width: bool = False
    half_size_chroma: bool = False
    high_byte_only: bool = False


PIXEL_FORMATS = {
    "bgr8": PixelFormat(3),
    "8UC3": PixelFormat(3),
    "rgb8": PixelFormat(3, cv2.COLOR_RGB2BGR),
    "bgra8": PixelFormat(4, cv2.COLOR_BGRA2BGR),
    "8UC4": PixelFormat(4, cv2.COLOR_BGRA2BGR),
    "rgba8": PixelFormat(4, cv2.COLOR_RGBA2BGR),
    "mono8": PixelFormat(1, cv2.COLOR_GRAY2BGR),
    "8UC1": PixelFormat(1, cv2.COLOR_GRAY2BGR),
    "mono16": PixelFormat(2, cv2.COLOR_GRAY2BGR, high_byte_only=True),
    "bayer_rggb8": PixelFormat(1, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": PixelFormat(1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": PixelFormat(1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": PixelFormat(1, cv2.COLOR_BayerGB2BGR),
    "bayer_rggb16": PixelFormat(2, cv2.COLOR_BayerBG2BGR, high_byte_only=True),
    "bayer_bggr16": PixelFormat(2, cv2.COLOR_BayerRG2BGR, high_byte_only=True),
    "bayer_gbrg16": PixelFormat(2, cv2.COLOR_BayerGR2BGR, high_byte_only=True),
    "bayer_grbg16": PixelFormat(2, cv2.COLOR_BayerGB2BGR, high_byte_only=True),
    "yuv422": PixelFormat(2, cv2.COLOR_YUV2BGR_UYVY, even_width=True),
    "uyvy": PixelFormat(2, cv2.COLOR_YUV2BGR_UYVY, even_width=True),
    "yuv422_yuy2": PixelFormat(2, cv2.COLOR_YUV2BGR_YUY2, even_width=True),
    "yuyv": PixelFormat(2, cv2.COLOR_YUV2BGR_YUY2, even_width=True),
    "nv12": PixelFormat(1, cv2.COLOR_YUV2BGR_NV12, even_width=True, half_size_chroma=True),
    "nv21": PixelFormat(1, cv2.COLOR_YUV2BGR_NV21, even_width=True, half_size_chroma=True),
}


def check_holds_light(encoding: str) -> None:
    """Refuse encodings that hold depths or other measurements instead of a picture, for example `16UC1` and `32FC1`.

    Raises:
        BadFrame: `unknown_encoding`, for an encoding of measurements.
    """
    if _MEASUREMENT.fullmatch(encoding):
        raise BadFrame(
            "unknown_encoding",
            f"expected a picture, got the encoding {encoding!r} of depths or other measurements, which cv_bridge "
            "cannot convert to a picture either; choose the camera's colour or grey images, and have grey of sixteen "
            "bits sent as mono16",
        )


def mosaic_to_bgr(mosaic: UInt8Array, encoding: str) -> UInt8Array:
    """Interpolate an 8-bit Bayer mosaic.

    Args:
        mosaic: uint8 `[height, width]`.
        encoding: Encoding that names the Bayer pattern, for example `bayer_rggb8` or `bayer_rggb16`.

    Returns:
        uint8 `[height, width, 3]` BGR.

    Raises:
        BadFrame: `bad_size`, for a mosaic of less than 3x3 px.
    """
    height, width = mosaic.shape
    return pixels_to_bgr(np.ascontiguousarray(mosaic).reshape(-1), f"{encoding[:10]}8", height, width, width)


def is_mosaic(encoding: str) -> bool:
    """Return whether the encoding is a supported Bayer pattern."""
    return encoding.startswith("bayer") and encoding in PIXEL_FORMATS


def pixels_to_bgr(
    data: UInt8Array, encoding: str, height: int, width: int, step: int, is_bigendian: bool = False
) -> UInt8Array:
    """Convert the bytes of a raw image to BGR.

    Args:
        data: uint8 `[n]`, all bytes of the image.
        encoding: A key of `PIXEL_FORMATS`.
        height: Rows, positive. For 4:2:0, drivers give the rows of the image or of both planes; the length of `data`
            decides which.
        width: Pixels in a row, positive.
        step: Bytes from the start of one row to the start of the next.
        is_bigendian: Whether the first byte of a 16-bit sample is the more significant one.

    Returns:
        uint8 `[height, width, 3]`. For BGR encodings a view of `data` that keeps the row padding.

    Raises:
        BadFrame: `bad_step` if rows do not fit into `step`, `bad_data` if `data` has the wrong length, `bad_size` if
            the encoding does not allow the width or height.
    """
    pixel_format = PIXEL_FORMATS[encoding]
    row_bytes = width * pixel_format.bytes_per_pixel
    if step < row_bytes:
        raise BadFrame("bad_step", f"expected a step of at least {row_bytes} for {width} px of {encoding}, got {step}")
    rows = _rows_with_chroma(data.size, encoding, height, step) if pixel_format.half_size_chroma else height
    if data.size != step * rows:
        raise BadFrame(
            "bad_data", f"expected {step * rows} bytes for {height} rows of {step} bytes of {encoding}, got {data.size}"
        )
    if pixel_format.even_width and width % 2:
        raise BadFrame("bad_size", f"expected an even width for {encoding}, got {width}")
    if encoding.startswith("bayer") and min(height, width) < _SMALLEST_MOSAIC_PX:
        raise BadFrame("bad_size", f"expected at least 3x3 px of {encoding} to interpolate, got {width}x{height}")
    pixels = _view(data, pixel_format, rows, width, step, is_bigendian)
    if pixel_format.conversion is None:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, pixel_format.conversion), np.uint8)


def _view(
    data: UInt8Array, pixel_format: PixelFormat, rows: int, width: int, step: int, is_bigendian: bool
) -> UInt8Array:
    channels = pixel_format.bytes_per_pixel
    shape: tuple[int, ...] = (rows, width, channels)
    strides: tuple[int, ...] = (step, channels, 1)
    if pixel_format.high_byte_only:
        data = data[0 if is_bigendian else 1 :]
    if pixel_format.high_byte_only or channels == 1:
        shape, strides = shape[:2], strides[:2]
    # Use the constructor: it refuses a view that reaches past the data, as_strided does not.
    view: UInt8Array = np.ndarray(shape, np.uint8, buffer=data, strides=strides)
    return view


def _rows_with_chroma(size: int, encoding: str, height: int, step: int) -> int:
    """Return the rows of both planes. Drivers disagree on whether the height of a 4:2:0 image includes the second."""
    if size == step * height and height % 3 == 0:
        return height
    if height % 2:
        raise BadFrame("bad_size", f"expected an even height for {encoding}, got {height}")
    return height * 3 // 2
