"""Callbacks of a run: waiting time for data, validation of the last epoch, a line per epoch, a lock on the folder."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO, Any

import lightning
import torch

from ros_kd_perception.system.output_paths import make_folder
from training.errors import CheckpointError


class DataClock(lightning.Callback):
    """Measures which share of the time in training epochs was spent waiting for the next batch."""

    def __init__(self) -> None:
        self._waited_s = self._worked_s = 0.0
        self._mark: float | None = None

    @property
    def waiting_share(self) -> float:
        """Share of the training time that was spent waiting for data, 0..1."""
        return self._waited_s / max(1e-9, self._waited_s + self._worked_s)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock: the run waits for the first batch."""
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count the time until now as waiting."""
        now = time.perf_counter()
        if self._mark is not None:
            self._waited_s += now - self._mark
        self._mark = now

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the time of the step as work; the run waits for the next batch."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # otherwise work queued on the GPU would count as waiting
        now = time.perf_counter()
        if self._mark is not None:
            self._worked_s += now - self._mark
        self._mark = now

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock: validation counts neither as waiting nor as work."""
        self._mark = None


class LastValidation(lightning.Callback):
    """Validates after the last epoch, whatever the interval, so that the last checkpoint has metrics of its weights."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the interval to 1 in the last epoch; Lightning reads it at the end of each epoch."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class EpochLines(lightning.Callback):
    """Prints number, loss and time of every finished epoch."""

    def __init__(self) -> None:
        self._began_s = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._began_s = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the line."""
        loss, took_s = trainer.callback_metrics.get("loss"), time.perf_counter() - self._began_s
        if loss is not None:  # None in an epoch that was resumed at its end
            line = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: loss {float(loss):.3f}, {took_s:.0f} s"
            pl_module.print(line, flush=True)


class FolderLock(lightning.Callback):
    """Locks a folder, so that only one run writes into it, until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Lock the folder in the first process of the run.

        Raises:
            CheckpointError: Another run holds the lock.
        """
        if not trainer.is_global_zero:
            return
        make_folder(self._folder)
        self._file = (self._folder / ".lock").open("wb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(
                f"{self._folder}: expected a folder of this run alone, another run is writing there; wait for it, or "
                "choose another name by --override name=NAME"
            ) from None
        except OSError:
            pass  # a network file system without locks

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
