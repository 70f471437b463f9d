"""Encode pictures for people as JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from ros_kd_perception.structures import UInt8Array

QUALITY = 85
"""Scarcely differs from the picture to the eye."""


def jpeg_of(image_bgr: UInt8Array) -> UInt8Array:
    """Encode a picture, uint8 `[height, width, 3]`, as JPEG. Equal pictures give equal bytes.

    Returns:
        uint8 `[n]`.

    Raises:
        OSError: OpenCV cannot encode it.
    """
    done, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(image_bgr), (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    if not done:
        raise OSError(f"expected OpenCV to encode a picture of {image_bgr.shape} as JPEG, it failed")
    return np.asarray(jpeg, np.uint8).reshape(-1)
