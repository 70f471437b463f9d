"""Checks of the machine for `check_vehicle`: each takes facts and returns a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ros_kd_perception.health.finding import Finding
from ros_kd_perception.health.verdict import Level
from ros_kd_perception.system.fastdds_settings import MiddlewareSettings
from ros_kd_perception.system.machine_facts import ProcessorFacts, SharedMemoryFacts

_SLOW_GOVERNORS = ("powersave", "conservative")
_DRIVERS_THAT_STILL_CLOCK_UP = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")  # their powersave is dynamic
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
WORKING_MEMORY_BYTES = 512 << 20
"""Memory of a node beside copies of its model. Nodes with the shipped student took 148 to 209 MiB in the soak runs."""
COPIES_OF_THE_FILE = 4


@dataclass(frozen=True)
class ModelFacts:
    """A model file.

    Attributes:
        path: Path of the file.
        problem: Why it cannot run, one sentence. Empty if the file is right.
        description: Its name, version, tasks and input. Empty with a problem.
        size_bytes: Size of the file.
        signed_with: Name of the public key that it was verified with. Empty if none is required.
    """

    path: str
    problem: str = ""
    description: str = ""
    size_bytes: int = 0
    signed_with: str = ""


def check_processor(facts: ProcessorFacts) -> Finding:
    """Check cores, quota and frequency governor."""
    cores = f"{facts.cores} core{'' if facts.cores == 1 else 's'}"
    if facts.quota_cores is not None and facts.quota_cores < facts.cores:
        cores += f", limited to {facts.quota_cores:g} by the control group"
    governor = f"governor {' and '.join(facts.governors)}" if facts.governors else "its governor cannot be seen"
    found = f"{cores}, {governor}"
    slow = [name for name in facts.governors if name in _SLOW_GOVERNORS]
    if slow and not set(facts.drivers) & set(_DRIVERS_THAT_STILL_CLOCK_UP):
        remedy = "set it to performance (`cpupower frequency-set -g performance`; on a Jetson: nvpmodel, jetson_clocks)"
        return Finding("processor", Level.WARN, f"{found}: the clock stays low under load", remedy)
    if min(facts.cores, facts.quota_cores or facts.cores) < 2:
        remedy = "give the node two cores: one for the network, one for images and topics"
        return Finding("processor", Level.WARN, f"{found}: the network and the images share it", remedy)
    return Finding("processor", Level.OK, found)


def check_shared_memory(facts: SharedMemoryFacts, processes: int, node_runs: bool) -> Finding:
    """Check that the segments of the node's processes fit into /dev/shm.

    Args:
        facts: Room in the shared memory.
        processes: Number of processes that the node will have, workers included.
        node_runs: Whether the node runs already and has its segments.
    """
    remedy = "start containers with --shm-size=512m or --ipc=host, or mount a larger /dev/shm"
    if facts.problem:
        return Finding("shared memory", Level.ERROR, facts.problem, remedy)
    room = f"{facts.free_bytes / 1e6:.0f} of {facts.total_bytes / 1e6:.0f} MB of /dev/shm are free"
    needed_bytes = processes * facts.process_bytes
    if node_runs or not needed_bytes:
        return Finding("shared memory", Level.OK, room)
    needed = (
        f"{needed_bytes / 1e6:.0f} MB are needed for the node's {processes} process{'' if processes == 1 else 'es'}"
    )
    if facts.free_bytes < needed_bytes:
        sentence = f"{needed}, but only {room}; Fast DDS would then lose large images without a word"
        return Finding("shared memory", Level.ERROR, sentence, remedy)
    return Finding("shared memory", Level.OK, f"{room}, {needed}")


def check_middleware(settings: MiddlewareSettings, environment: Mapping[str, str]) -> Finding:
    """Check the settings that the node would get in this environment."""
    if (
        environment.get("FASTDDS_BUILTIN_TRANSPORTS", "").startswith("LARGE_DATA")
        and environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST"
    ):
        return Finding(
            "middleware",
            Level.ERROR,
            "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA loses large images together with "
            "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST",
            "unset one of them",
        )
    if settings.may_lose_images:
        remedy = "see docs/vehicle.md, Large images: the sender's settings"
        return Finding("middleware", Level.WARN, settings.sentence, remedy)
    return Finding("middleware", Level.OK, settings.sentence)


def check_model(facts: ModelFacts) -> Finding:
    """Check that the model file can run, with its signature if one is required."""
    if facts.problem:
        return Finding("model", Level.ERROR, facts.problem)
    signature = f", signed with {facts.signed_with}" if facts.signed_with else ""
    return Finding("model", Level.OK, f"{facts.path}: {facts.description}{signature}")


def check_memory(model: ModelFacts, available_bytes: int | None) -> Finding:
    """Check that the node and its model fit into the memory."""
    if available_bytes is None:
        return Finding("memory", Level.OK, "its free room cannot be seen")
    needed_bytes = WORKING_MEMORY_BYTES + COPIES_OF_THE_FILE * model.size_bytes
    found = f"{available_bytes / 1e9:.1f} GB are available, about {needed_bytes / 1e9:.1f} GB are enough for the node"
    if available_bytes < needed_bytes:
        remedy = "end other processes, or raise the memory limit of the container"
        return Finding("memory", Level.WARN, found, remedy)
    return Finding("memory", Level.OK, found)


def check_provider(
    wanted: str, available: Sequence[str], require_gpu: bool, gpu_device: bool, device: str = "auto"
) -> Finding:
    """Check that ONNX Runtime has the execution provider that the parameters ask for.

    Args:
        wanted: The provider for the parameter `device`.
        available: The providers of the installed ONNX Runtime.
        require_gpu: The parameter.
        gpu_device: Whether the driver of a GPU is visible.
        device: The parameter.
    """
    remedy = "install onnxruntime-gpu in place of onnxruntime, in a version for the installed CUDA: docs/vehicle.md"
    if wanted not in available:
        level = Level.ERROR if require_gpu else Level.WARN
        sentence = f"device {device} asks for {wanted}, ONNX Runtime here has {', '.join(available)}"
        if not require_gpu:
            sentence += "; the network would run on the CPU"
        return Finding("GPU", level, sentence, remedy)
    if wanted == _CPU and require_gpu:
        sentence = "require_gpu is true, but the network would run on the CPU"
        return Finding("GPU", Level.ERROR, sentence, f"{remedy}; and leave device at auto or set it to cuda")
    if wanted == _CPU and device == "auto" and gpu_device:
        return Finding("GPU", Level.WARN, "there is a GPU, but this ONNX Runtime cannot use it", remedy)
    if wanted == _CPU:
        return Finding("GPU", Level.OK, "the network runs on the CPU, as the parameters ask for")
    if not gpu_device:
        level = Level.ERROR if require_gpu else Level.WARN
        sentence = f"ONNX Runtime has {wanted}, but no NVIDIA device is visible here"
        return Finding("GPU", level, sentence, "load the driver, or start the container with --gpus all")
    sentence = f"ONNX Runtime has {wanted} and the driver is loaded; the node proves at its start that both work"
    return Finding("GPU", Level.OK, sentence)
