"""Limits the memory of a child process that opens a model. ONNX Runtime and TensorRT have no limit that covers it.

Shape inference computes as many shape values as the graph demands, and TensorRT folds constants of any size. A limit on
the address space (RLIMIT_AS) does not work with a GPU, whose driver reserves terabytes. A thread therefore measures the
child's memory while it runs. This works on Linux only. Other systems do not report the memory, so there is no limit.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ros_kd_perception.model.onnx_file import MAX_MEMORY_BYTES, MAX_MODEL_BYTES

COPIES_OF_THE_FILE = 4
"""The bytes of the file, the parsed protobuf, the weights, and the weights in the layout of the kernels."""

TENSORRT_BUILD_BYTES = 8 << 30
"""Additional memory for TensorRT while it builds an engine. It is generous, because a killed build is lost."""

_POLL_S = 0.02
_PROC = Path("/proc")


class ChildMemory:
    """The memory limit of a child process and the result of watching it.

    Attributes:
        limit_bytes: The limit.
        exceeded_bytes: Memory of the child when it was killed. 0 if it stayed within the limit.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.exceeded_bytes = 0

    def refusal(self, path: str) -> str:
        """Return one sentence on why the child was killed."""
        return (
            f"expected {path} to open within {self.limit_bytes / (1 << 30):.1f} GiB of memory, it took "
            f"{self.exceeded_bytes / (1 << 30):.1f} GiB or more; export the model again"
        )


def limit_of_model(path: str | Path, device: str = "cpu") -> int:
    """Return how many bytes opening a model may take: the values between its layers plus copies of the file.

    Args:
        path: Path of the model file.
        device: The device as in `OnnxModel.open`. `tensorrt` adds memory for building an engine.
    """
    try:
        size = Path(path).stat().st_size
    except OSError:
        size = 0
    build = TENSORRT_BUILD_BYTES if device == "tensorrt" else 0
    return MAX_MEMORY_BYTES + COPIES_OF_THE_FILE * min(size, MAX_MODEL_BYTES) + build


def private_memory_bytes(process_id: int) -> int:
    """Return the private memory of a process in bytes, including swapped-out pages. Return 0 if it is unknown."""
    try:
        lines = (_PROC / str(process_id) / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(found[key].split()[0]) << 10 for key in ("RssAnon", "VmSwap") if key in found)


@contextmanager
def limited_memory(child: subprocess.Popen[str] | subprocess.Popen[bytes], limit_bytes: int) -> Iterator[ChildMemory]:
    """Kill a child process that exceeds `limit_bytes` while the `with` block runs."""
    memory, over = ChildMemory(limit_bytes), threading.Event()

    def watch() -> None:
        while not over.wait(_POLL_S):
            held = private_memory_bytes(child.pid)
            if held > limit_bytes and child.poll() is None:
                memory.exceeded_bytes = held
                child.kill()
                return

    thread = threading.Thread(target=watch, name="memory of a child", daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()
