"""A model file is tried once on each machine, in a process of its own, before anything here opens it.

What passed is remembered by its hash, so that a node which comes back after a fault does not wait for a second trial.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ros_kd_perception.candidates.check import TENSORRT_TIMEOUT_S, TIMEOUT_S, check_in_child
from ros_kd_perception.model.engine_cache import gpu_identity, own_cache_folder
from ros_kd_perception.model.execution_provider import RUNTIME, available_providers
from ros_kd_perception.model.onnx_file import MAX_MODEL_BYTES

_CHUNK_BYTES = 1 << 20


def try_model(
    path: str | Path,
    options: Mapping[str, Any],
    cancelled: Callable[[], bool] = lambda: False,
    *,
    low_priority: bool = False,
) -> str:
    """Have a model tried unless this file has passed before with the same device, precision, batch and runtime.

    Of TensorRT nothing is remembered: its engine may have to be built again, which is for a process of its own. Nor is
    what ran elsewhere than asked: once the GPU is there, the model is new to it.

    Args:
        path: of the `.onnx` file.
        options: keyword arguments of `OnnxModel.open`, which is to be called with them afterwards.
        cancelled: asked every 50 ms; ends the trial when it says so.
        low_priority: the trial gives way to whatever else the machine does.

    Returns:
        The sha256 of the file that passed: the `sha256` of `OnnxModel.open`, so that no other file slips in between.

    Raises:
        CandidateRefused: it did not pass, or the trial was cancelled.
    """
    remembered = options.get("device") != "tensorrt"
    if remembered:
        sha256 = _sha256(Path(path))
        if sha256 and (record := _record(sha256, options)) is not None and record.exists():
            return sha256
    passed = check_in_child(
        str(path),
        {**options, "intra_op_threads": 1},  # its golden frames run again afterwards, with as many as are wanted
        cancelled,
        low_priority=low_priority,
        timeout_s=TIMEOUT_S if remembered else TENSORRT_TIMEOUT_S,
    )
    if remembered and passed.as_asked and (record := _record(passed.sha256, options)) is not None:
        with contextlib.suppress(OSError):
            record.write_text(f"{path} passed\n", encoding="utf-8", errors="replace")  # for those who look
    return passed.sha256


def _record(sha256: str, options: Mapping[str, Any]) -> Path | None:
    """The file whose existence says that a model has passed; None where this user has no folder of their own."""
    wanted = (f"{key} {options.get(key)}" for key in ("device", "precision", "max_batch"))
    machine = (gpu_identity(), platform.node(), platform.machine())
    identity = "\n".join((sha256, *wanted, RUNTIME, *available_providers(), *machine))
    try:
        return own_cache_folder("passed") / hashlib.sha256(identity.encode()).hexdigest()
    except OSError:
        return None


def _sha256(path: Path) -> str:
    """Hash of a file; empty if it cannot be read or is larger than any model, which the trial then says."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_MODEL_BYTES:
            return ""
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
            return digest.hexdigest()
    except OSError:
        return ""
