"""MaskMessages: lets class maps be computed directly in the memory of the messages, which saves a copy."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ros_kd_perception.structures import UInt8Array

_SPARE_OF_A_SIZE = 4
_SIZES = 8


class MaskMessages:
    """Lends the pixels of messages, and reuses a message when the last view of its pixels is gone.

    Reuse saves the page faults of fresh memory. A view may be kept for any time and in any thread. For example, an
    overlay that is drawn later still has its own class map. Safe in several threads.

    Args:
        make: Creates a mono8 sensor_msgs/Image with this height and width. Its `data` must be writable and must not be
            replaced.
    """

    def __init__(self, make: Callable[[int, int], Any]) -> None:
        self._make = make
        self._lent: dict[int, Any] = {}  # address of the pixels -> message
        self._spare: dict[tuple[int, int], list[Any]] = {}

    def new_class_map(self, height: int, width: int) -> UInt8Array:
        """Return the pixels of a message, uint8 `[height, width]`, with undefined content."""
        try:
            message = self._spare[height, width].pop()
        except (KeyError, IndexError):
            message = self._make(height, width)
        # NumPy makes this array the base of every view, so it lives until the last view is gone. Without the
        # memoryview, the message's data would be the base, if it is an array of NumPy.
        flat = np.frombuffer(memoryview(message.data), np.uint8)
        address = _address(flat)
        self._lent[address] = message
        weakref.finalize(flat, self._give_back, address).atexit = False
        return flat.reshape(height, width)

    def message_of(self, class_map: UInt8Array) -> Any | None:
        """Return the message whose pixels this class map is, or None if it is in other memory or only a part."""
        message = self._lent.get(_address(class_map))
        if message is None or (message.height, message.width) != class_map.shape or not class_map.flags.c_contiguous:
            return None
        return message

    def _give_back(self, address: int) -> None:
        message = self._lent.pop(address)
        size = message.height, message.width
        if size not in self._spare and len(self._spare) >= _SIZES:
            self._spare.clear()  # do not keep memory for many different sizes
        spare = self._spare.setdefault(size, [])
        if len(spare) < _SPARE_OF_A_SIZE:
            spare.append(message)


def _address(array: UInt8Array) -> int:
    return int(array.__array_interface__["data"][0])
