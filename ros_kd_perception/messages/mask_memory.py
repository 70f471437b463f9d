"""MaskMessages: class maps are computed in the memory of the messages that carry them, so that nobody copies them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ros_kd_perception.structures import UInt8Array

_SPARE_OF_A_SIZE = 4
_SIZES = 8


class MaskMessages:
    """Lends the pixels of messages, and lends them again when the last view of them is gone.

    Fresh memory for every frame would cost its page faults. Views may be kept for as long as anybody likes, and in any
    thread: an overlay that is drawn late, say, has its class map to itself.

    Args:
        make: a sensor_msgs/Image of so many rows and columns, mono8, its `data` writable and not replaced later.
    """

    def __init__(self, make: Callable[[int, int], Any]) -> None:
        self._make = make
        self._lent: dict[int, Any] = {}  # by address
        self._spare: dict[tuple[int, int], list[Any]] = {}

    def new_class_map(self, height: int, width: int) -> UInt8Array:
        """The pixels of a message, uint8 `[height, width]`, of whatever content."""
        try:
            message = self._spare[height, width].pop()
        except (KeyError, IndexError):
            message = self._make(height, width)
        # Every view of it, of whatever shape, keeps this very object alive: NumPy makes it their base.
        flat = np.frombuffer(message.data, np.uint8)
        address = _address(flat)
        self._lent[address] = message
        weakref.finalize(flat, self._give_back, address).atexit = False
        return flat.reshape(height, width)

    def message_of(self, class_map: UInt8Array) -> Any | None:
        """The message whose pixels a whole class map is; None if it lies elsewhere."""
        message = self._lent.get(_address(class_map))
        if message is None or (message.height, message.width) != class_map.shape or not class_map.flags.c_contiguous:
            return None
        return message

    def _give_back(self, address: int) -> None:
        message = self._lent.pop(address)
        size = message.height, message.width
        if size not in self._spare and len(self._spare) >= _SIZES:
            self._spare.clear()  # sizes that come and go must not pile up
        spare = self._spare.setdefault(size, [])
        if len(spare) < _SPARE_OF_A_SIZE:
            spare.append(message)


def _address(array: UInt8Array) -> int:
    return int(array.__array_interface__["data"][0])
