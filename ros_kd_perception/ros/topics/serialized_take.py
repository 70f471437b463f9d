"""Takes serialised messages from a subscription into memory that is used again.

rclpy makes a C message and a Python message of the bytes, two copies under the interpreter's lock. Here the bytes are
copied once, without the lock.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.subscription import Subscription

from ros_kd_perception.ros.rcl_library import OK, TAKE_FAILED, RclLibrary, SerializedBytes, rcl_library
from ros_kd_perception.structures import UInt8Array

_SPARE = 4
_INFO_BYTES = 256  # more than rmw_message_info_t has in any distribution
_INFO_NUMBERS = 4  # its first fields: two times and two sequence numbers, 8 bytes each
_GID_AT, _GID_BYTES = 40, 16  # after these numbers and a pointer
_UNKNOWN = (1 << 64) - 1  # RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED


@dataclass(frozen=True)
class TakenMessage:
    """A serialised message.

    Attributes:
        serialized: uint8 `[n]`, with the encapsulation header. Its memory is used again when its last view is gone.
        info: `publication_sequence_number`, `publisher_gid` and `received_timestamp`, as far as the middleware has
            them.
        arrival_ns: Steady clock at which the middleware received it, or at which it was taken if that is not known.
    """

    serialized: UInt8Array
    info: Mapping[str, Any]
    arrival_ns: int


class SerializedTake:
    """Takes the messages of one subscription. Safe in several threads.

    Args:
        subscription: The subscription. No executor may take its messages.
    """

    def __init__(self, subscription: Subscription[Any]) -> None:
        self._subscription = subscription
        self._library = rcl_library()
        self._spare: list[SerializedBytes] = []
        self._closed = False
        # Reentrant: the garbage collector may give memory back at any moment, in the thread that holds the lock, too.
        self._lock = threading.RLock()

    def take(self) -> TakenMessage | None:
        """Return the newest message, or None if there is none.

        Raises:
            RuntimeError: The middleware refuses, or the subscription has been destroyed.
        """
        handle = self._subscription.handle
        with handle:
            if self._library is None:
                return self._take_by_rclpy(handle)
            return self._take_by_rcl(self._library, handle.pointer)

    def _take_by_rclpy(self, handle: Any) -> TakenMessage | None:
        taken = handle.take_message(self._subscription.msg_type, True)
        if taken is None:
            return None
        content, info = taken if isinstance(taken, tuple) else (taken, {})
        info = dict(info) if isinstance(info, Mapping) else {}
        return TakenMessage(np.frombuffer(content, np.uint8), info, _arrival_ns(info))

    def _take_by_rcl(self, library: RclLibrary, pointer: int) -> TakenMessage | None:
        with self._lock:
            memory = self._spare.pop() if self._spare else library.new_bytes()
        memory.length = 0
        info = (ctypes.c_uint8 * _INFO_BYTES)()
        status = library.take(ctypes.c_void_p(pointer), ctypes.byref(memory), info, None)
        if status != OK:
            self._give_back(memory)
            if status == TAKE_FAILED:
                return None
            raise RuntimeError(f"expected to take a message, rcl returned {status}: {library.error()}")
        pixels = (ctypes.c_uint8 * memory.length).from_address(memory.buffer)
        serialized = np.frombuffer(pixels, np.uint8)
        weakref.finalize(pixels, self._give_back, memory).atexit = False
        found = _info(bytes(info))
        return TakenMessage(serialized, found, _arrival_ns(found))

    def _give_back(self, memory: SerializedBytes) -> None:
        with self._lock:
            if not self._closed and len(self._spare) < _SPARE:
                self._spare.append(memory)
                return
        if self._library is not None:
            self._library.free(memory)

    def close(self) -> None:
        """Free the memory that is not lent. What is lent is freed when it comes back."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, []
        for memory in spare:
            if self._library is not None:
                self._library.free(memory)


def _info(content: bytes) -> dict[str, Any]:
    numbers = np.frombuffer(content, np.uint64, _INFO_NUMBERS).tolist()
    info: dict[str, Any] = {"received_timestamp": numbers[1]}
    if numbers[2] not in (0, _UNKNOWN):
        info["publication_sequence_number"] = numbers[2]
        info["publisher_gid"] = {"data": content[_GID_AT : _GID_AT + _GID_BYTES]}
    return info


def _arrival_ns(info: Mapping[str, Any]) -> int:
    now_ns = time.monotonic_ns()
    received_ns = int(info.get("received_timestamp") or 0)
    # The middleware stamps with the system clock, which may be set meanwhile.
    return now_ns - max(0, time.time_ns() - received_ns) if received_ns > 0 else now_ns
