"""RemoteNetwork: runs the network on frames whose inputs worker processes have left in the shared memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ros_kd_perception.model.network_outputs import FIELD_OF_OUTPUT
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import FrameFacts
from ros_kd_perception.system.frame_memory import FrameMemory


class RemoteFrame(NamedTuple):
    """A frame whose image is in a worker process and whose network input is in the shared memory."""

    frame: FrameFacts
    ticket: int
    slot: int


class RanFrame(NamedTuple):
    """A frame on which the network has run; its outputs are in the shared memory."""

    ticket: int
    inference_ms: float


class FrameMemoryOwner(Protocol):
    """Has the shared memory of the active model, such as `RemoteFrames`."""

    memory: FrameMemory


class RemoteNetwork:
    """Runs a model on frames of the shared memory and leaves the outputs there.

    Attributes:
        model: The model that it runs.

    Args:
        model: The verified model to run.
        frames: Has the shared memory, which changes with the model.
    """

    def __init__(self, model: OnnxModel, frames: FrameMemoryOwner) -> None:
        self.model = model
        self._frames = frames

    def fitted(self, prepared: RemoteFrame) -> RemoteFrame:
        """Return the frame: the worker processes have prepared theirs again when the model changed."""
        return prepared

    def perceive_prepared(self, prepared: Sequence[RemoteFrame]) -> list[RanFrame]:
        """Run the network on up to `max_batch` frames in one batch."""
        ran: list[RanFrame] = []
        for first in range(0, len(prepared), self.model.max_batch):
            ran += self._run(prepared[first : first + self.model.max_batch])
        return ran

    def _run(self, batch: Sequence[RemoteFrame]) -> list[RanFrame]:
        memory = self._frames.memory
        inputs = [memory.network_input(one.slot) for one in batch]
        started = time.perf_counter()
        outputs = self.model.run(inputs[0][None] if len(inputs) == 1 else np.stack(inputs))
        inference_ms = (time.perf_counter() - started) * 1e3
        for row, one in enumerate(batch):
            for name, view in memory.outputs(one.slot).items():
                np.copyto(view, getattr(outputs, FIELD_OF_OUTPUT[name])[row : row + 1])
        return [RanFrame(one.ticket, inference_ms) for one in batch]
