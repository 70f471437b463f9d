"""Tries a model file in a child process before it is opened here, once on each machine.

A model that passed is remembered by its hash, with the speed that was measured, so that a node that restarts after a
fault does not wait for a second trial.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ros_kd_perception.candidates.check import TENSORRT_TIMEOUT_S, TIMEOUT_S, CandidatePassed, check_in_child
from ros_kd_perception.model.engine_cache import gpu_identity, own_cache_folder
from ros_kd_perception.model.execution_provider import RUNTIME, available_providers
from ros_kd_perception.model.onnx_file import MAX_MODEL_BYTES

_CHUNK_BYTES = 1 << 20
_SHARE_KEY = "time_share_of_fp32"


def try_model(
    path: str | Path,
    options: Mapping[str, Any],
    cancelled: Callable[[], bool] = lambda: False,
    *,
    low_priority: bool = False,
) -> CandidatePassed:
    """Try a model unless this file has passed before with the same device, precision, batch size and ONNX Runtime.

    A pass with TensorRT is not remembered, because the engine may have to be built again, and that must happen in a
    child process. A pass on a fallback is not remembered either: the model is still untested on the requested device.

    Args:
        path: Path of the `.onnx` file.
        options: Keyword arguments for `OnnxModel.open`. Use the same ones to open the model afterwards.
        cancelled: Called every 50 ms. Returning True ends the trial.
        low_priority: Run the trial behind everything else on the machine.

    Returns:
        What the trial found. Pass its sha256 to `OnnxModel.open`, which then refuses a file that has changed since.

    Raises:
        CandidateRefused: The model did not pass, or the trial was cancelled.
    """
    remembered = options.get("device") != "tensorrt"
    if remembered:
        sha256 = _sha256(Path(path))
        if sha256 and (record := _record(sha256, options)) is not None and record.exists():
            return CandidatePassed(sha256, True, _recorded_share(record))
    passed = check_in_child(
        str(path),
        {**options, "intra_op_threads": 1},  # `OnnxModel.open` later runs them with the requested number
        cancelled,
        low_priority=low_priority,
        timeout_s=TIMEOUT_S if remembered else TENSORRT_TIMEOUT_S,
    )
    if remembered and passed.as_asked and (record := _record(passed.sha256, options)) is not None:
        with contextlib.suppress(OSError):
            share = passed.time_share_of_fp32
            text = "" if share is None else f"{_SHARE_KEY} {share}\n"
            # The path is for people who look.
            record.write_text(f"{text}{path} passed\n", encoding="utf-8", errors="replace")
    return passed


def _recorded_share(record: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError), record.open(encoding="utf-8") as file:
        key, _, share = file.readline(100).partition(" ")
        return float(share) if key == _SHARE_KEY else None
    return None


def _record(sha256: str, options: Mapping[str, Any]) -> Path | None:
    """Return the path of the file that exists if the model has passed, or None if this user has no cache folder."""
    wanted = (f"{key} {options.get(key)}" for key in ("device", "precision", "max_batch"))
    machine = (gpu_identity(), platform.node(), platform.machine())
    identity = "\n".join((sha256, *wanted, RUNTIME, *available_providers(), *machine))
    try:
        return own_cache_folder("passed") / hashlib.sha256(identity.encode()).hexdigest()
    except OSError:
        return None


def _sha256(path: Path) -> str:
    """Return the sha256 of a file. Return an empty string for an unreadable or too large file: the trial reports it."""
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
