"""What a run does beside training: measures its waiting, validates its last epoch, prints a line, keeps others out."""

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
        """0..1."""
        return self._waited_s / max(1e-9, self._waited_s + self._worked_s)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """From here on the first batch is awaited."""
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        now = time.perf_counter()
        if self._mark is not None:
            self._waited_s += now - self._mark
        self._mark = now

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The step is done; the next batch is awaited."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # or the work still queued there would count as waiting
        now = time.perf_counter()
        if self._mark is not None:
            self._worked_s += now - self._mark
        self._mark = now

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Validation is neither."""
        self._mark = None


class LastValidation(lightning.Callback):
    """Has the last epoch validated whatever the interval: the last checkpoint notes figures of its own weights then."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning looks at the interval at the end of each epoch."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class EpochLines(lightning.Callback):
    """Prints number, loss and time of every epoch that is done."""

    def __init__(self) -> None:
        self._began_s = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The clock starts."""
        self._began_s = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """One line."""
        loss, took_s = trainer.callback_metrics.get("loss"), time.perf_counter() - self._began_s
        if loss is not None:  # none in an epoch that a checkpoint had behind it, but for its end
            line = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: loss {float(loss):.3f}, {took_s:.0f} s"
            pl_module.print(line, flush=True)


class FolderLock(lightning.Callback):
    """One run at a time writes into a folder; held until it is let go of, or the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """The first process of a run takes it.

        Raises:
            CheckpointError: another run has it.
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
        """Let go of it."""
        if self._file is not None:
            self._file.close()
