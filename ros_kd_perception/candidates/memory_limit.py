"""What a child process that opens a model may take: no limit of ONNX Runtime's or TensorRT's bounds it.

Shape inference follows as many shape values as a graph has it make, and TensorRT folds constants of any size. A limit
of the process itself would be wrong on a GPU, whose driver reserves address space by the terabyte; so what the process
holds is looked at while it works. Linux only: elsewhere nothing is known and nothing is ended.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ros_kd_perception.model.onnx_file import MAX_MEMORY_BYTES, MAX_MODEL_BYTES

COPIES_OF_THE_FILE = 4
"""Its bytes, what is parsed of them, the weights, and the weights as the kernels want them."""

TENSORRT_BUILD_BYTES = 8 << 30
"""What TensorRT may take besides while it tries kernels for an engine; generous, for a build that is ended is lost."""

_POLL_S = 0.02
_PROC = Path("/proc")


class ChildMemory:
    """How a child's memory went; `exceeded_bytes` is what it held when it was ended, 0 if it was not."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.exceeded_bytes = 0

    def refusal(self, path: str) -> str:
        """One sentence, once it was ended."""
        return (
            f"expected {path} to open within {self.limit_bytes / (1 << 30):.1f} GiB of memory, it took "
            f"{self.exceeded_bytes / (1 << 30):.1f} and more; export the model again"
        )


def limit_of_model(path: str | Path, device: str = "cpu") -> int:
    """Bytes that opening a model may take: what the values between its layers may, and its weights on the way.

    Args:
        path: of the file.
        device: as in `OnnxModel.open`; `tensorrt` builds an engine besides.
    """
    try:
        size = Path(path).stat().st_size
    except OSError:
        size = 0
    build = TENSORRT_BUILD_BYTES if device == "tensorrt" else 0
    return MAX_MEMORY_BYTES + COPIES_OF_THE_FILE * min(size, MAX_MODEL_BYTES) + build


def private_memory_bytes(process_id: int) -> int:
    """Bytes that a process alone holds, swapped out or not; 0 if that is not known."""
    try:
        lines = (_PROC / str(process_id) / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(found[key].split()[0]) << 10 for key in ("RssAnon", "VmSwap") if key in found)


@contextmanager
def limited_memory(child: subprocess.Popen[str] | subprocess.Popen[bytes], limit_bytes: int) -> Iterator[ChildMemory]:
    """Kill a child process that comes to hold more than so much while the block runs."""
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
