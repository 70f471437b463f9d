"""Decode encodings outside `PIXEL_FORMATS` with cv_bridge, if it is installed.

cv_bridge is imported when the first image needs it and not before: built for a different NumPy, its C++ part can crash
the process or raise ImportError, AttributeError, SystemError or another error. A failed import is not tried again,
because each attempt takes milliseconds and a camera sends thirty images a second.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ros_kd_perception.images.pixel_formats import PIXEL_FORMATS
from ros_kd_perception.structures import BadFrame, UInt8Array

_NAME = "cv_bridge"
_MAX_ERROR_CHARACTERS = 160
_lock = threading.Lock()
_why_not = ""


def decode_with_cv_bridge(message: Any, encoding: str) -> UInt8Array:
    """Decode a sensor_msgs/Image with cv_bridge.

    Returns:
        uint8 `[height, width, 3]` BGR.

    Raises:
        BadFrame: `unknown_encoding`, if cv_bridge is not installed or cannot convert the encoding to BGR.
    """
    bridge = _load(encoding)
    try:
        image = np.asarray(bridge().imgmsg_to_cv2(message, "bgr8"))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # Depends on encoding and version: CvBridgeError, cv2.error, KeyError and others.
        raise BadFrame(
            "unknown_encoding", f"expected cv_bridge to read the encoding {encoding[:40]!r}, got: {_one_line(error)}"
        ) from None
    if image.dtype != np.uint8 or image.shape != (int(message.height), int(message.width), 3):
        raise BadFrame(
            "unknown_encoding",
            f"expected cv_bridge to make BGR of the encoding {encoding[:40]!r}, got {image.dtype} {image.shape}",
        )
    return image


def _load(encoding: str) -> Callable[[], Any]:
    global _why_not
    with _lock:
        if _NAME in sys.modules or not _why_not:
            try:
                from cv_bridge import CvBridge
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit included: an import must not end the process
                _why_not = _sentence_for(error)
            else:
                found: Callable[[], Any] = CvBridge
                return found
        raise BadFrame(
            "unknown_encoding",
            f"expected one of the encodings {', '.join(PIXEL_FORMATS)}, got {encoding[:40]!r}; {_why_not}",
        ) from None


def _sentence_for(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == _NAME:
        return "install cv_bridge for others"
    return (
        f"cv_bridge, which reads others, cannot be imported: {type(error).__name__}: {_one_line(error)}; install the "
        "one of this ROS distribution beside the NumPy that it was built for, then start again"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_MAX_ERROR_CHARACTERS]
