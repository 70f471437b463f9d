"""RclLibrary: takes and publishes serialised messages through librcl, which rclpy has loaded.

rclpy offers both too, but copies the bytes once more and holds the interpreter's lock meanwhile. ctypes releases it.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache

from ros_kd_perception.structures import UInt8Array

OK, TAKE_FAILED = 0, 401
"""Values of rcl_ret_t (rcl/types.h). The second one means that no message waits."""


class _Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class SerializedBytes(ctypes.Structure):
    """rcutils_uint8_array_t: memory, its length and how to enlarge it."""

    _fields_ = [
        ("buffer", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    ]


class _ErrorText(ctypes.Structure):
    """rcutils_error_string_t."""

    _fields_ = [("text", ctypes.c_char * 1024)]


class RclLibrary:
    """The functions of librcl that rclpy has loaded."""

    def __init__(self) -> None:
        # Only the library that rclpy uses: another one would not know its contexts.
        rcl, rcutils = (ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW) for name in ("librcl.so", "librcutils.so"))
        self.take = rcl.rcl_take_serialized_message
        self.take.argtypes = [ctypes.c_void_p, ctypes.POINTER(SerializedBytes), ctypes.c_void_p, ctypes.c_void_p]
        self.publish = rcl.rcl_publish_serialized_message
        self.publish.argtypes = [ctypes.c_void_p, ctypes.POINTER(SerializedBytes), ctypes.c_void_p]
        default_allocator = rcutils.rcutils_get_default_allocator
        default_allocator.argtypes, default_allocator.restype = [], _Allocator
        self._allocator = default_allocator()
        self._error = rcutils.rcutils_get_error_string
        self._reset_error = rcutils.rcutils_reset_error
        self._free = rcutils.rcutils_uint8_array_fini
        self._free.argtypes = [ctypes.POINTER(SerializedBytes)]
        self._error.argtypes, self._error.restype = [], _ErrorText

    def new_bytes(self) -> SerializedBytes:
        """Return an empty array that rcl may enlarge."""
        return SerializedBytes(None, 0, 0, self._allocator)

    def lent_bytes(self, content: UInt8Array) -> SerializedBytes:
        """Return an array that lends the memory of `content`, which must be contiguous and stay as it is."""
        return SerializedBytes(content.ctypes.data, content.nbytes, content.nbytes, self._allocator)

    def free(self, memory: SerializedBytes) -> None:
        """Free an array of `new_bytes`."""
        self._free(ctypes.byref(memory))

    def error(self) -> str:
        """Return and forget the text of the last error in this thread."""
        text = bytes(self._error().text).partition(b"\0")[0].decode(errors="replace")
        self._reset_error()
        return text


@lru_cache(maxsize=1)
def rcl_library() -> RclLibrary | None:
    """Return the functions of librcl, or None if they cannot be called. rclpy then takes and publishes the bytes."""
    try:
        return RclLibrary()
    except (OSError, AttributeError):
        return None
