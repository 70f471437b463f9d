"""The process in which `memory_of` loads and runs one model: prints its memory as one line of JSON."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ros_kd_perception.images.compressed import decode_file
from ros_kd_perception.structures import Frame
from training.evaluation.memory import MemoryRequest

if TYPE_CHECKING:
    from training.evaluation.scoring import Perceives

FRAMES = 3  # the first one sets up buffers, and later ones may still grow them
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # what proc(5) calls resetting the peak of the resident set


def main() -> int:
    """Measure the model that the first argument describes on the picture from standard input."""
    request = MemoryRequest(**json.loads(sys.argv[1]))
    image_bgr = decode_file(sys.stdin.buffer.read())
    exported = request.path.endswith(".onnx")
    _load_libraries(exported)
    gpu = _GpuMemory(exported) if request.device != "cpu" else None
    with suppress(OSError):  # without it the peak of loading the libraries counts, which is hardly above the end of it
        _CLEAR.write_text(_FORGET_PEAK)
    before = resident_bytes("VmRSS")
    perceiver = _opened(request, exported)
    perceiver.warm_up()
    for number in range(FRAMES):
        perceiver.perceive([Frame("memory", number, "", image_bgr)])
    peak = resident_bytes("VmHWM")
    found = {
        "added_bytes": None if before is None or peak is None else max(0, peak - before),
        "process_bytes": peak,
        "device_bytes": gpu.peak_bytes() if gpu else None,
    }
    print(json.dumps(found, allow_nan=False))
    return 0


def resident_bytes(field: str) -> int | None:
    """Return the resident memory of this process, now (`VmRSS`) or its peak (`VmHWM`); None if it is not told."""
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) << 10
    return None


def _load_libraries(exported: bool) -> None:
    """Import what runs every model of its kind, so that it does not count as memory of this one."""
    if exported:
        from ros_kd_perception import perceiver  # noqa: F401
        from ros_kd_perception.model import onnx_model, onnx_runtime  # noqa: F401
    else:
        from training.evaluation import models  # noqa: F401


def _opened(request: MemoryRequest, exported: bool) -> Perceives:
    if exported:
        # As a vehicle opens it. `open_model` loads PyTorch, and a second copy of the file to count its parameters.
        from ros_kd_perception.model.onnx_model import OnnxModel
        from ros_kd_perception.perceiver import Perceiver

        return Perceiver(OnnxModel.open(request.path, device=request.device, intra_op_threads=request.threads))
    from training.evaluation.models import open_model

    size = request.height, request.width
    return open_model(Path(request.path), request.weights, *size, request.threads, request.device).perceiver


class _GpuMemory:
    """Memory of a GPU. PyTorch knows its own peak; ONNX Runtime gives nothing back, so what is missing now is its peak.

    What other processes take or give back meanwhile counts as that of ONNX Runtime.
    """

    def __init__(self, exported: bool) -> None:
        import torch

        self._exported, self._torch = exported, torch
        self._free_bytes = 0
        if torch.cuda.is_available():
            self._free_bytes = torch.cuda.mem_get_info()[0]

    def peak_bytes(self) -> int | None:
        """Return the peak since this object was made; None without a GPU that PyTorch finds."""
        if not self._torch.cuda.is_available():
            return None
        if self._exported:
            return max(0, self._free_bytes - int(self._torch.cuda.mem_get_info()[0]))
        return int(self._torch.cuda.max_memory_reserved())


if __name__ == "__main__":
    sys.exit(main())
