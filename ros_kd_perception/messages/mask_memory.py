"""MaskMessages: lets class maps be computed directly in the memory of the messages, which saves a copy."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ros_kd_perception.structures import UInt8Array

_SPARE_OF_A_SIZE = 4
_SIZES = 8


class MaskMessages:
    """Lends the pixels of messages, and reuses a message when the last view of its pixels is gone.

    Reuse saves the page faults of fresh memory. A view may be kept for any time and in any thread. For example, an
    overlay that is drawn later still has its own class map. Safe in several threads.

    Args:
        make: Creates a message with this `height` and `width`, and with `data` that ends with the pixels: a mono8
            sensor_msgs/Image, or an object with a whole serialised message as its data. Its `data` must be writable and
            must not be replaced.
    """

    def __init__(self, make: Callable[[int, int], Any]) -> None:
        self._make = make
        self._lent: dict[int, _Lent] = {}  # by the address of the pixels
        self._spare: dict[tuple[int, int], list[Any]] = {}

    def new_class_map(self, height: int, width: int) -> UInt8Array:
        """Return the pixels of a message, uint8 `[height, width]`, with undefined content."""
        try:
            message = self._spare[height, width].pop()
        except (KeyError, IndexError):
            message = self._make(height, width)
        # NumPy makes this array the base of every view, so it lives until the last view is gone. Without the
        # memoryview, the message's data would be the base, if it is an array of NumPy.
        data = np.frombuffer(memoryview(message.data), np.uint8)
        class_map = data[data.size - height * width :].reshape(height, width)
        address = _address(class_map)
        self._lent[address] = _Lent(message, weakref.ref(data))
        weakref.finalize(data, self._give_back, address).atexit = False
        return class_map

    def message_of(self, class_map: UInt8Array) -> Any | None:
        """Return the message whose pixels this class map is, or None if it is in other memory or only a part."""
        lent = self._lent_of(class_map)
        return None if lent is None else lent.message

    def data_of(self, class_map: UInt8Array) -> UInt8Array | None:
        """Return all data of the message whose pixels this class map is, or None if it has no message.

        The result is uint8 `[n]`. As long as it or a view of it exists, the message is not reused.
        """
        lent = self._lent_of(class_map)
        return None if lent is None else lent.data()

    def _lent_of(self, class_map: UInt8Array) -> _Lent | None:
        lent = self._lent.get(_address(class_map))
        if lent is None or lent.size != class_map.shape or not class_map.flags.c_contiguous:
            return None
        return lent

    def _give_back(self, address: int) -> None:
        lent = self._lent.pop(address)
        if lent.size not in self._spare and len(self._spare) >= _SIZES:
            self._spare.clear()  # do not keep memory for many different sizes
        spare = self._spare.setdefault(lent.size, [])
        if len(spare) < _SPARE_OF_A_SIZE:
            spare.append(lent.message)


class _Lent(NamedTuple):
    """A message and the array over its data that all views of its pixels are based on."""

    message: Any
    data: weakref.ref[UInt8Array]

    @property
    def size(self) -> tuple[int, int]:
        return self.message.height, self.message.width


def _address(array: UInt8Array) -> int:
    return int(array.__array_interface__["data"][0])
