"""Publishes serialised messages without a copy and without the interpreter's lock."""

from __future__ import annotations

import ctypes
from typing import Any

from rclpy.publisher import Publisher

from ros_kd_perception.ros.rcl_library import OK, rcl_library
from ros_kd_perception.structures import UInt8Array


def publish_serialized(publisher: Publisher[Any], serialized: UInt8Array) -> None:
    """Publish the bytes of a message.

    Args:
        publisher: The publisher. One of a lifecycle node does nothing while it is not activated.
        serialized: uint8 `[n]`, C-contiguous, with the encapsulation header, of the publisher's type.

    Raises:
        RuntimeError: The middleware refuses, or the publisher has been destroyed.
    """
    library = rcl_library()
    if library is None:
        publisher.publish(serialized.tobytes())
        return
    if not getattr(publisher, "is_activated", True):
        return
    handle = publisher.handle
    with handle:
        status = library.publish(ctypes.c_void_p(handle.pointer), ctypes.byref(library.lent_bytes(serialized)), None)
    if status != OK:
        raise RuntimeError(f"expected to publish a message, rcl returned {status}: {library.error()}")
