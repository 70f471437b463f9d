"""FrameMemory: memory that the process of the network and its worker processes share, without a name in the system.

It holds a number of slots. A slot has the network input of one frame and the outputs that the network gave for it. The
memory is an anonymous file (memfd_create(2)): it ends with the last process that has it open, however that one ends,
and it is not limited by the size of /dev/shm.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]

_ALIGNMENT = 64
_MAX_BYTES = 4 << 30


class NoFrameMemory(RuntimeError):
    """The memory cannot be had. The text is one sentence."""


class FrameMemory:
    """Slots for network inputs and outputs.

    Attributes:
        descriptor: File descriptor of the memory, to hand to another process. It is closed with this object.
        slots: Number of slots.

    Args:
        input_shape: Height, width and channels of a network input, uint8.
        outputs: Type and shape of the outputs for one frame, by name.
        slots: Number of slots.
        descriptor: Memory that another process has made with the same arguments. It is taken over. None to make new
            memory.

    Raises:
        NoFrameMemory: There is not enough memory, or the descriptor holds less than the slots need.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        outputs: Mapping[str, tuple[type[np.generic], tuple[int, ...]]],
        slots: int,
        descriptor: int | None = None,
    ) -> None:
        self.slots = slots
        self.descriptor = -1
        self._input_shape = input_shape
        self._places: dict[str, tuple[int, type[np.generic], tuple[int, ...]]] = {}
        end = _aligned(int(np.prod(input_shape)))
        for name, (dtype, shape) in outputs.items():
            self._places[name] = (end, dtype, shape)
            end = _aligned(end + int(np.prod(shape)) * np.dtype(dtype).itemsize)
        self._slot_bytes = end
        size = self._slot_bytes * slots
        if size > _MAX_BYTES:
            raise NoFrameMemory(f"expected shared frames of at most {_MAX_BYTES >> 20} MiB, got {size >> 20} MiB")
        self.descriptor = _reserved(size) if descriptor is None else _of_size(descriptor, size)
        self._memory = _mapped(self.descriptor, size)
        self._outputs: dict[int, dict[str, npt.NDArray[Any]]] = {}
        self._inputs: dict[int, UInt8Array] = {}

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def network_input(self, slot: int) -> npt.NDArray[np.uint8]:
        """Return the network input of a slot, uint8 `[H, W, 3]`, a view."""
        if slot not in self._inputs:
            self._inputs[slot] = self._view(slot, 0, np.uint8, self._input_shape)
        return self._inputs[slot]

    def outputs(self, slot: int) -> dict[str, npt.NDArray[Any]]:
        """Return all outputs of a slot by name, views with a batch axis of 1."""
        if slot not in self._outputs:
            self._outputs[slot] = {name: self._view(slot, *place)[None] for name, place in self._places.items()}
        return self._outputs[slot]

    def _view(self, slot: int, offset: int, dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        if not 0 <= slot < self.slots:
            raise IndexError(f"expected a slot from 0 to {self.slots - 1}, got {slot}")
        start = slot * self._slot_bytes + offset
        return np.frombuffer(self._memory, dtype, int(np.prod(shape)), start).reshape(shape)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _mebibytes(size: int) -> int:
    return -(-size >> 20)


def _reserved(size: int) -> int:
    try:
        descriptor = os.memfd_create("ros_kd_perception frames", os.MFD_CLOEXEC)
    except (AttributeError, OSError) as error:
        raise NoFrameMemory(
            f"expected Linux memory for {_mebibytes(size)} MiB of frames, got: {error}; set preparation_processes to 0"
        ) from None
    try:
        # Reserve all of it now. Memory that runs out later would end a process in the middle of a frame.
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        os.close(descriptor)
        raise NoFrameMemory(
            f"expected {_mebibytes(size)} MiB of free memory for frames, got: {error.strerror}; free some memory or "
            "set preparation_processes to 0"
        ) from None
    return descriptor


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, size)
    except OSError as error:
        raise NoFrameMemory(
            f"expected room for {_mebibytes(size)} MiB of shared frames in this process, got: {error.strerror}; raise "
            "the limit (ulimit -v for memory, ulimit -n for files) or free some memory"
        ) from None


def _of_size(descriptor: int, size: int) -> int:
    found = os.fstat(descriptor).st_size
    if found < size:
        os.close(descriptor)
        raise NoFrameMemory(f"expected {size} bytes of shared frames, got {found}")
    return descriptor
