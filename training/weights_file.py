"""Weights alone, as a safetensors file: kernels in half precision, everything else in float32, with notes as metadata.

Format: https://huggingface.co/docs/safetensors. Such a file is a quarter of a checkpoint or less: it has neither the
optimiser's state nor a second copy of the weights. Nothing in it is code. Importing this does not load torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import CheckpointError
from training.whole_files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
NOTES_KEY = "ros_kd_perception"  # the only key of the metadata: the order of several would differ each time
MAX_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file.

    Attributes:
        state: Weights and buffers by name; floating-point ones are float32.
        notes: Plain values of `CheckpointInfo`.
        sha256: SHA-256 of the weights in float32, before they were stored.
    """

    state: dict[str, Tensor]
    notes: dict[str, Any]
    sha256: str


def write_weights(path: Path, state: Mapping[str, Tensor], notes: Mapping[str, Any], sha256: str) -> None:
    """Write weights and notes; see `WeightsFile`.

    Raises:
        OSError: The file cannot be written.
        OutputPathError: Its folder cannot be made.
    """
    from safetensors.torch import save

    stored = {name: _stored(value) for name, value in state.items()}
    content = {"weights_sha256": sha256, "info": notes}
    metadata = {NOTES_KEY: json.dumps(content, allow_nan=False, sort_keys=True)}
    write_bytes(path, save(stored, metadata))


def _stored(value: Tensor) -> Tensor:
    """Return a kernel in half precision if it fits.

    Biases, scales and running statistics are a hundredth of the bytes, and a variance can be too small for half
    precision.
    """
    value = value.detach().cpu().contiguous()
    if value.ndim < 2 or not value.is_floating_point():
        return value
    half = value.half()
    return half if bool(half.isfinite().all()) else value


def read_weights(path: Path) -> WeightsFile:
    """Read weights and notes.

    Raises:
        CheckpointError: The file is missing, is not a safetensors file, or does not come from `keep-weights`.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    CheckpointError.check_file(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"expected at most {MAX_FILE_BYTES} bytes")
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it has no iterator)
        content = json.loads(metadata[NOTES_KEY])
        notes, sha256 = content["info"], content["weights_sha256"]
        if not isinstance(notes, dict) or not isinstance(sha256, str):
            raise ValueError("notes of another form")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: expected weights that python -m training keep-weights wrote, got "
            f"{' '.join(str(error).split())[:120]}; keep them from their checkpoint again"
        ) from error
    return WeightsFile(
        {name: value.float() if value.dtype == torch.float16 else value for name, value in state.items()}, notes, sha256
    )
