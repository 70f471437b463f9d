"""Decode Image and CompressedImage messages into BGR arrays.

Messages are read by attribute, so those of rclpy and of rosbags both work. Every size in a message is checked against
the data. A message that contradicts its data raises `BadFrame` with a drop reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ros_kd_perception.images.compressed import check_whole, claimed_size, decode_file, is_grey
from ros_kd_perception.images.compressed_format import parse_format
from ros_kd_perception.images.cv_bridge_fallback import decode_with_cv_bridge
from ros_kd_perception.images.pixel_formats import (
    PIXEL_FORMATS,
    check_holds_light,
    is_mosaic,
    mosaic_to_bgr,
    pixels_to_bgr,
)
from ros_kd_perception.structures import BadFrame, Frame, UInt8Array

MAX_SIDE_PX = 16384
MAX_PIXELS = 64 << 20
MAX_FRAME_ID_CHARACTERS = 255
"""Limit on the frame id, which is copied into the mask and into each of up to 100 boxes."""


def decode_image(message: Any) -> UInt8Array:
    """Decode a sensor_msgs/Image.

    Encodings outside `PIXEL_FORMATS` are decoded by cv_bridge if it is installed. 16-bit encodings keep the high byte
    of each sample. `8UC1`, `8UC3` and `8UC4` are read as grey, BGR and BGRA, as cv_bridge does. `16UC1` and `32FC1`
    hold depths and are refused.

    Args:
        message: Message with `height`, `width`, `encoding`, `step`, `is_bigendian` and `data` (array.array, bytes or
            uint8 array).

    Returns:
        uint8 `[height, width, 3]` BGR. For `bgr8` a view of the message's memory that keeps the row padding.

    Raises:
        BadFrame: `unknown_encoding`, `bad_size`, `too_large`, `bad_step` or `bad_data`.
    """
    height, width = int(message.height), int(message.width)
    check_size(height, width)
    encoding = str(message.encoding)
    if encoding not in PIXEL_FORMATS:
        check_holds_light(encoding)
        return decode_with_cv_bridge(message, encoding)
    return pixels_to_bgr(
        _as_bytes(message.data), encoding, height, width, int(message.step), bool(message.is_bigendian)
    )


def decode_compressed_image(message: Any) -> UInt8Array:
    """Decode a sensor_msgs/CompressedImage that holds a JPEG or PNG.

    The size in the file's header is checked before decoding. A grey file is interpolated if `format` names a Bayer
    encoding. A colour file was interpolated by its sender.

    Args:
        message: Message with `format` and `data` (array.array, bytes or uint8 array).

    Returns:
        uint8 `[height, width, 3]` BGR.

    Raises:
        BadFrame: `unknown_encoding`, `bad_size`, `too_large` or `bad_data`.
    """
    content = _as_bytes(message.data).tobytes()
    declared = parse_format(str(message.format))
    claimed = claimed_size(content, declared.codec)
    check_size(*claimed)
    check_whole(content)
    image = decode_file(content)
    if image.shape[:2] != claimed:
        raise BadFrame("bad_data", f"expected {claimed[1]}x{claimed[0]} px, as the header claims, got {image.shape}")
    if is_mosaic(declared.encoding) and is_grey(content):
        return mosaic_to_bgr(image[:, :, 0], declared.encoding)
    return image


def frame_from_message(camera: str, message: Any) -> Frame:
    """Decode an Image or CompressedImage message into a frame with the message's stamp and frame id.

    Raises:
        BadFrame: `bad_data` for an impossible stamp or frame id; or a reason from `decode_image` or
            `decode_compressed_image`.
    """
    seconds, nanoseconds = int(message.header.stamp.sec), int(message.header.stamp.nanosec)
    if nanoseconds >= 10**9:
        raise BadFrame("bad_data", f"expected a header stamp of less than 10^9 nanoseconds, got {nanoseconds}")
    frame_id = str(message.header.frame_id)
    if len(frame_id) > MAX_FRAME_ID_CHARACTERS:
        raise BadFrame(
            "bad_data", f"expected a frame id of at most {MAX_FRAME_ID_CHARACTERS} characters, got {len(frame_id)}"
        )
    image = decode_image(message) if hasattr(message, "encoding") else decode_compressed_image(message)
    return Frame(camera, seconds * 10**9 + nanoseconds, frame_id, image)


def check_size(height: int, width: int) -> None:
    """Refuse an image without pixels (`bad_size`) or above `MAX_SIDE_PX` or `MAX_PIXELS` (`too_large`)."""
    if height < 1 or width < 1:
        raise BadFrame("bad_size", f"expected an image of at least 1x1 px, got {width}x{height}")
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_PIXELS:
        raise BadFrame(
            "too_large",
            f"expected an image of at most {MAX_PIXELS} px and {MAX_SIDE_PX} px a side, got {width}x{height}",
        )


def _as_bytes(data: Any) -> UInt8Array:
    try:
        array = np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        # NumPy also raises ValueError for an empty buffer.
        raise BadFrame("bad_data", f"expected image data in bytes, got {type(data).__name__}: {error}") from None
    if array.size == 0:
        raise BadFrame("bad_data", "expected image data, got none")
    return array
