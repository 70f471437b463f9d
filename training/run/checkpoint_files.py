"""Writes checkpoints under a temporary name and renames them, so that a checkpoint on disk is always complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from ros_kd_perception.system.output_paths import make_folder
from training.errors import CheckpointError

_COPIES_OF_WEIGHTS = 4  # the weights, their average, and AdamW's two moments
_FILES = 3  # last, best, and the one that is being written


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints like Lightning, but with the temporary file in the same folder.

    Lightning uses the system's temporary folder. If that is on another disk, a full disk leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint. An earlier file at `path` stays until the new one is complete.

        Raises:
            CheckpointError: The disk is full, or the folder is not writable.
        """
        del storage_options
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            make_folder(target.parent)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except (OSError, RuntimeError) as error:
            # On a full disk, PyTorch's writer raises a RuntimeError while it handles the OSError.
            partial.unlink(missing_ok=True)
            cause = error if isinstance(error, OSError) else error.__context__
            reason = cause.strerror if isinstance(cause, OSError) else str(error).splitlines()[0]
            left = f"; the earlier {target} is complete" if target.exists() else ""
            raise CheckpointError(
                f"{target}: expected to write a checkpoint, got: {reason}{left}; make room, then continue with --resume"
            ) from error


def check_room(folder: Path, network: nn.Module, cache: tuple[Path, int] | None = None) -> None:
    """Refuse a disk that has no room for the files of a run.

    Args:
        folder: Folder of the run; it, or a folder above it, exists.
        network: All parameters that are trained.
        cache: Folder of the teacher's outputs, or of a folder in which it will be made, and the bytes to come.

    Raises:
        CheckpointError: There is not enough room.
    """
    size = sum(value.numel() * value.element_size() for value in network.parameters())
    needed = size * _COPIES_OF_WEIGHTS * _FILES
    _check_disk(folder, needed, "the checkpoints of this run", "set output to a folder on another disk")
    if cache is not None:
        place, growth = cache
        if _existing(place).stat().st_dev == _existing(folder).stat().st_dev:
            growth += needed
        remedy = "set distillation.cache to a folder on another disk, or lower data.views_per_frame if it keeps views"
        _check_disk(place, growth, "the teacher's outputs and the other files of this run", remedy)


def _check_disk(folder: Path, needed: int, what: str, remedy: str) -> None:
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise CheckpointError(
            f"{folder}: expected {needed / 1e6:.0f} MB of free disk for {what}, got {free / 1e6:.0f} MB; make room, or "
            f"{remedy}"
        )


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
