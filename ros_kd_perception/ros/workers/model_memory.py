"""The shared memory that fits a model."""

from __future__ import annotations

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.network_outputs import OUTPUT_TYPES
from ros_kd_perception.system.frame_memory import FrameMemory, NoFrameMemory


def frame_memory(contract: ModelContract, slots: int, descriptor: int | None = None) -> FrameMemory:
    """Make, or open, memory for network inputs and outputs of a model.

    Args:
        contract: Contract of the model.
        slots: Number of frames.
        descriptor: Memory that another process has made. It is taken over. None to make new memory.

    Raises:
        NoFrameMemory: There is not enough memory.
    """
    size = contract.input
    outputs = {name: (OUTPUT_TYPES[name][1], shape) for name, shape in contract.output_shapes().items()}
    return FrameMemory((size.height, size.width, 3), outputs, slots, descriptor)


def received_frame_memory(contract: ModelContract, slots: int, descriptor: int | None) -> FrameMemory:
    """Open memory for network inputs and outputs of a model that came with a message.

    Args:
        contract: Contract of the model.
        slots: Number of frames.
        descriptor: The descriptor of the message. The kernel leaves it out if this process may open no more files.

    Raises:
        NoFrameMemory: There is no descriptor, or the memory cannot be opened.
    """
    if descriptor is None:
        raise NoFrameMemory("expected shared frames with a message, got too many open files; raise ulimit -n")
    return frame_memory(contract, slots, descriptor)
