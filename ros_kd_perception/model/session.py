"""Two ways to run a session: PlainSession passes arrays, BoundSession uses fixed buffers on the device.

A CUDA graph needs fixed addresses. They also save one allocation and one copy for each of the outputs. On the CPU they
bring nothing (measured), so only GPUs use BoundSession. OneByOne adapts either to a file that runs one frame only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ros_kd_perception.model.execution_provider import INPUT_NAME
from ros_kd_perception.model.onnx_runtime import onnxruntime
from ros_kd_perception.structures import UInt8Array

_GRAPH_ID = "gpu_graph_id"


class SessionRunner(Protocol):
    """Runs a network on uint8 `[N, H, W, 3]`, C-contiguous."""

    def run(self, images: UInt8Array) -> Sequence[Any]:
        """Return the outputs in the order of the names that the runner was constructed with."""


class PlainSession:
    """Passes arrays to a session, which allocates new ones for the outputs. This is the fastest way on a CPU."""

    def __init__(self, session: onnxruntime.InferenceSession, outputs: Sequence[str]) -> None:
        self._session = session
        self._outputs = list(outputs)

    def run(self, images: UInt8Array) -> Sequence[Any]:
        """Run the network and return its outputs in the order of `outputs`."""
        return self._session.run(self._outputs, {INPUT_NAME: images})  # type: ignore[no-any-return]


class BoundSession:
    """Runs a session with fixed device buffers, in batches of up to `max_batch` frames.

    Args:
        session: The session from `execution_provider.open_session`.
        input_shape: Height, width and channels of one frame.
        outputs: Name, and dtype and shape for one frame, of each output, in the order in which `run` returns them.
        max_batch: The largest number of frames in one run.
        device_type: Where the buffers are, `cuda` or `cpu`.
        cuda_graph: Whether the session records CUDA graphs. Each batch size then gets its own graph id.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        input_shape: tuple[int, int, int],
        outputs: Mapping[str, tuple[type[np.generic], tuple[int, ...]]],
        *,
        max_batch: int,
        device_type: str = "cuda",
        cuda_graph: bool = False,
    ) -> None:
        self._session = session
        self._input_shape = input_shape
        self._outputs = outputs
        self._max_batch = max_batch
        self._device_type = device_type
        self._cuda_graph = cuda_graph
        self._sets: dict[int, _Buffers] = {}

    def run(self, images: UInt8Array) -> list[np.ndarray[Any, Any]]:
        """Run the network on uint8 `[N, H, W, 3]`, C-contiguous. The outputs are copies that the caller owns.

        Raises:
            ValueError: There is no frame, there are more than `max_batch`, or they have another size.
        """
        count = images.shape[0]
        if not 0 < count <= self._max_batch or images.shape[1:] != self._input_shape:
            raise ValueError(
                f"expected 1 to {self._max_batch} network inputs of {self._input_shape}, got {images.shape}"
            )
        if count not in self._sets:
            self._sets[count] = self._allocate(count)
        buffers = self._sets[count]
        buffers.images.update_inplace(images)
        self._session.run_with_iobinding(buffers.binding, buffers.options)
        arrays = [value.numpy() for value in buffers.outputs]
        # On a GPU `numpy()` copies. On the CPU it returns a view of the buffer, which the next run overwrites.
        return [array.copy() for array in arrays] if self._device_type == "cpu" else arrays

    def _allocate(self, count: int) -> _Buffers:
        binding = self._session.io_binding()
        images = self._value((count, *self._input_shape), np.uint8)
        binding.bind_ortvalue_input(INPUT_NAME, images)
        outputs = []
        for name, (dtype, shape) in self._outputs.items():
            outputs.append(self._value((count, *shape), dtype))
            binding.bind_ortvalue_output(name, outputs[-1])
        options = onnxruntime.RunOptions()
        if self._cuda_graph:
            options.add_run_config_entry(_GRAPH_ID, str(count))
        return _Buffers(images, outputs, binding, options)

    def _value(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, self._device_type, 0)


class OneByOne:
    """Runs the frames of a batch one after the other, for a file whose batch axis is fixed to 1."""

    def __init__(self, runner: SessionRunner) -> None:
        self._runner = runner

    def run(self, images: UInt8Array) -> Sequence[Any]:
        """Run the network on each frame and join the outputs."""
        if len(images) == 1:
            return self._runner.run(images)
        runs = [self._runner.run(images[row : row + 1]) for row in range(len(images))]
        return [np.concatenate(output) for output in zip(*runs, strict=True)]


class _Buffers:
    """The buffers, binding and run options of one batch size. They live as long as the session."""

    def __init__(self, images: Any, outputs: list[Any], binding: Any, options: onnxruntime.RunOptions) -> None:
        self.images = images
        self.outputs = outputs
        self.binding = binding
        self.options = options
