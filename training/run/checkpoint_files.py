"""Checkpoints on disk are whole or absent: written beside their place and then put there."""

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
    """Lightning's way of writing, but by way of a file in the same folder.

    Its own goes by way of the system's temporary folder: where that is another disk, a full one leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; whatever was at `path` before stays until the new one is whole.

        Raises:
            CheckpointError: the disk is full, or nothing may be written there.
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
            # PyTorch's writer raises a RuntimeError while it is closed by the OSError of a full disk.
            partial.unlink(missing_ok=True)
            cause = error if isinstance(error, OSError) else error.__context__
            reason = cause.strerror if isinstance(cause, OSError) else str(error).splitlines()[0]
            left = f"; {target} of before is whole" if target.exists() else ""
            raise CheckpointError(
                f"{target}: expected to write a checkpoint, got: {reason}{left}; make room, then go on with --resume"
            ) from error


def check_room(folder: Path, network: nn.Module, cache: tuple[Path, int] | None = None) -> None:
    """Refuse a disk that has no room for what a run writes.

    Args:
        folder: of the run; it, or a folder above it, exists.
        network: all that is trained.
        cache: folder of the teacher's outputs, likewise, and the bytes that they will come to.

    Raises:
        CheckpointError: now, rather than at the end of the first epoch.
    """
    size = sum(value.numel() * value.element_size() for value in network.parameters())
    needed = size * _COPIES_OF_WEIGHTS * _FILES
    _check_disk(folder, needed, "the checkpoints of this run", "set output to a folder on another disk")
    if cache is not None:
        place, growth = cache
        if _existing(place).stat().st_dev == _existing(folder).stat().st_dev:
            growth += needed
        remedy = "lower data.views_per_frame, or set distillation.cache to a folder on another disk"
        _check_disk(place, growth, "the teacher's outputs and what else this run writes there", remedy)


def _check_disk(folder: Path, needed: int, what: str, remedy: str) -> None:
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise CheckpointError(
            f"{folder}: expected {needed / 1e6:.0f} MB of free disk for {what}, got {free / 1e6:.0f} MB; make room, or "
            f"{remedy}"
        )


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
