"""How much memory a model adds to a process that loads and runs it. Each is measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from ros_kd_perception.structures import UInt8Array

CHILD = "training.evaluation.memory_process"
LIMIT_S = 600.0
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Memory:
    """Memory of a process that runs one model on one frame after the other.

    Attributes:
        added_bytes: Peak of the resident memory while the model is loaded and run, less what the process held with its
            libraries loaded and no model; None where the system does not tell.
        process_bytes: Peak of the resident memory of the process, with its libraries; None where the system does not
            tell.
        device_bytes: Peak on the GPU that the model holds; None on a CPU, or where it is not known.
        problem: Why nothing was measured; empty if it was.
    """

    added_bytes: int | None = None
    process_bytes: int | None = None
    device_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class MemoryRequest:
    """What is measured: the arguments of `open_model`.

    Attributes:
        path: File of the model, as text.
        weights: Which weights of a checkpoint.
        height, width: Size of the network input of a checkpoint; None for its own.
        threads: Threads of inference on the CPU.
        device: Where the model runs.
    """

    path: str
    weights: str
    height: int | None
    width: int | None
    threads: int
    device: str


def memory_of(request: MemoryRequest, image_bgr: UInt8Array) -> Memory:
    """Load and run a model in a new process, and return the memory that it took there.

    A new process holds nothing of other models, and returns no memory that an earlier one has used.

    Args:
        request: The model.
        image_bgr: uint8 (h, w, 3), the frame that it perceives.
    """
    _, encoded = cv2.imencode(".png", image_bgr)
    search = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    try:
        ended = subprocess.run(
            [sys.executable, "-m", CHILD, json.dumps(asdict(request), allow_nan=False)],
            input=encoded.tobytes(),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": search},
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Memory(problem=f"its process did not end within {LIMIT_S:.0f} s")
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        return Memory(problem=f"its process ended with status {ended.returncode}: {said[-1] if said else 'no word'}")
    found = json.loads(ended.stdout.splitlines()[-1])
    return Memory(found["added_bytes"], found["process_bytes"], found["device_bytes"])
