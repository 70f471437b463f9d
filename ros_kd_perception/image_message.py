"""Image and CompressedImage messages to BGR arrays, by attribute: rclpy's, rosbags' and any other alike.

Whatever a message claims is checked against what it holds, and the answer to a lie is a `BadFrame` with its reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ros_kd_perception.compressed_image import check_whole, claimed_size, decode_file
from ros_kd_perception.pixel_formats import PIXEL_FORMATS, pixels_to_bgr
from ros_kd_perception.structures import BadFrame, Frame, UInt8Array

MAX_SIDE_PX = 16384
MAX_PIXELS = 64 << 20
MAX_FRAME_ID_CHARACTERS = 255
"""The header is copied into the mask and into every box: a frame id of a megabyte would become a hundred."""


def decode_image(message: Any) -> UInt8Array:
    """Decode a sensor_msgs/Image.

    Reads the encodings of `PIXEL_FORMATS` itself; others go through cv_bridge where that is installed. `mono16` keeps
    the high byte of each sample. `8UC1`, `8UC3`, `8UC4` are read as grey, BGR, BGRA, as cv_bridge does. `16UC1` and
    `32FC1` are depths, not pictures, and are left to cv_bridge's judgement.

    Args:
        message: has `height`, `width`, `encoding`, `step`, `is_bigendian` and `data` (array.array, bytes or uint8
            array).

    Returns:
        uint8 `[height, width, 3]` BGR. For `bgr8` a view of the message's memory, rows padded as in the message.

    Raises:
        BadFrame: `unknown_encoding`, `bad_size`, `too_large`, `bad_step` or `bad_data`.
    """
    height, width = int(message.height), int(message.width)
    check_size(height, width)
    encoding = str(message.encoding)
    if encoding not in PIXEL_FORMATS:
        return _decode_with_cv_bridge(message, encoding)
    return pixels_to_bgr(
        _as_bytes(message.data), encoding, height, width, int(message.step), bool(message.is_bigendian)
    )


def decode_compressed_image(message: Any) -> UInt8Array:
    """Decode a sensor_msgs/CompressedImage that holds a JPEG or PNG; its header is judged before it is decoded.

    Args:
        message: has `format` and `data` (array.array, bytes or uint8 array).

    Returns:
        uint8 `[height, width, 3]` BGR.

    Raises:
        BadFrame: `unknown_encoding`, `bad_size`, `too_large` or `bad_data`.
    """
    content = _as_bytes(message.data).tobytes()
    claimed = claimed_size(content, str(message.format))
    check_size(*claimed)
    check_whole(content)
    image = decode_file(content)
    if image.shape[:2] != claimed:
        raise BadFrame("bad_data", f"expected {claimed[1]}x{claimed[0]} px, as the header claims, got {image.shape}")
    return image


def frame_from_message(camera: str, message: Any) -> Frame:
    """Decode either kind of message into a frame with the message's stamp and frame id.

    Raises:
        BadFrame: as `decode_image` and `decode_compressed_image`; `bad_data` for a header that is none.
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
    """Refuse an image without pixels (`bad_size`) or with more than memory should be risked on (`too_large`)."""
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
        # An empty buffer, too: NumPy has no view of nothing.
        raise BadFrame("bad_data", f"expected image data in bytes, got {type(data).__name__}: {error}") from None
    if array.size == 0:
        raise BadFrame("bad_data", "expected image data, got none")
    return array


def _decode_with_cv_bridge(message: Any, encoding: str) -> UInt8Array:
    # Imported only for an encoding that needs it: its C++ part can crash beside another NumPy than its own.
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise BadFrame(
            "unknown_encoding",
            f"expected one of the encodings {', '.join(PIXEL_FORMATS)}, got {encoding[:40]!r}; "
            "install cv_bridge for others",
        ) from None
    try:
        image = np.asarray(CvBridge().imgmsg_to_cv2(message, "bgr8"))
    except Exception as error:
        # CvBridgeError, cv2.error, KeyError and more, by encoding and version.
        raise BadFrame(
            "unknown_encoding",
            f"expected cv_bridge to read the encoding {encoding[:40]!r}, got: {' '.join(str(error).split())[:160]}",
        ) from None
    if image.dtype != np.uint8 or image.shape != (int(message.height), int(message.width), 3):
        raise BadFrame(
            "unknown_encoding",
            f"expected cv_bridge to make BGR of the encoding {encoding[:40]!r}, got {image.dtype} {image.shape}",
        )
    return image
