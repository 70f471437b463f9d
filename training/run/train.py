"""Trains by a recipe, from the start or from a checkpoint, and writes checkpoints."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ros_kd_perception.system.output_paths import make_folder
from training.distillation.whole_frames import WholeFrames
from training.errors import RecipeError, writing_to
from training.recipe import Recipe
from training.run.callbacks import DataClock, EpochLines, FolderLock, LastValidation
from training.run.checkpoint_files import WholeCheckpoints, check_room
from training.run.curves import Curves
from training.run.data_module import DrivingData
from training.run.devices import check_devices, refused_devices
from training.run.environment import note_start
from training.run.frames import RunFrames
from training.run.gaps import classes_without_labels
from training.run.lightning_module import StudentTraining
from training.run.mlflow_log import MlflowLog
from training.run.objective import cache_growth, whole_frames
from training.run.present_sources import with_present_sources
from training.run.run_files import folder_of, open_run
from training.run.stopped_run import StoppedRun
from training.whole_files import write_text

LOGGED_EVERY_STEPS = 2


def train(
    recipe: Recipe,
    resume: Path | None = None,
    accelerator: str = "auto",
    devices: str | int = 1,
    num_nodes: int = 1,
    callbacks: tuple[lightning.Callback, ...] = (),
    anew: bool = False,
    frames: RunFrames | None = None,
    mlflow: MlflowLog | None = None,
) -> Path:
    """Run a recipe.

    Args:
        recipe: Recipe of the run.
        resume: Checkpoint of the same recipe to resume from.
        accelerator: Lightning's accelerator: `auto`, `cpu` or `gpu`.
        devices: Lightning's devices; see `device_numbers`.
        num_nodes: Number of machines.
        callbacks: Callbacks in addition to those of this file.
        anew: Whether checkpoints in the run's folder may be overwritten.
        frames: Result of `open_run` for this recipe; None calls it here.
        mlflow: Logs the run to a server, beside the logs in its folder; None = to none.

    Returns:
        The run's folder: checkpoints/last.ckpt, checkpoints/best.ckpt, csv/, tensorboard/, curves.png, recipe.yaml with
        all defaults, environment.json.

    Raises:
        RecipeError: The recipe does not fit the devices or the data.
        DataError: The frames cannot be trained on.
        CheckpointError: A checkpoint cannot be used or written.
        OutputPathError: The folder of the run is not writable.
    """
    check_devices(accelerator, devices)
    recipe = with_present_sources(recipe)
    frames = frames or open_run(recipe, resume, anew)
    folder = folder_of(recipe)
    stopped = StoppedRun.read(resume, recipe) if resume else None
    if stopped:
        stopped.check_data(frames)
    data = DrivingData(recipe, frames, first_epoch=stopped.info.epoch if stopped else 0)
    clock, lock = DataClock(), FolderLock(folder)
    with refused_devices(accelerator, devices, num_nodes):
        trainer = _make_trainer(
            recipe, folder, data.best_by, accelerator, devices, num_nodes, (clock, lock, *callbacks)
        )
        if mlflow:
            trainer.loggers = [*trainer.loggers, mlflow]
    if mlflow and trainer.is_global_zero:
        mlflow.connect()
    steps = data.steps_per_epoch(trainer.world_size)
    if not steps:
        raise RecipeError(
            f"an epoch of {data.samples_per_epoch} samples does not fill one batch of {recipe.batch_size} in each of "
            f"{trainer.world_size} processes; lower batch_size, raise data.samples_per_epoch or use fewer devices"
        )
    module = StudentTraining(recipe, steps, data.fingerprint, stopped.info if stopped else None)
    if stopped:
        stopped.check_network(module)
    if trainer.is_global_zero and (gaps := classes_without_labels(recipe, frames, module.objective)):
        print(
            f"{recipe.name}: no source and no teacher labels {gaps}; the student will not learn them, so add a source "
            "or a teacher that knows them, or name a label set without them"
        )
    available, seen = sum(len(source) for source in data.sources), recipe.epochs * data.samples_per_epoch
    whole = whole_frames(recipe, module.objective, data.sources)
    growth = whole.growth if whole else cache_growth(recipe, module.objective, available, seen)
    check_room(folder, module.student, growth)
    if whole:
        _look_at_frames(whole, trainer, recipe.name)
        data.kept = whole.kept
    if recipe.quantization_aware is not None and not stopped:
        found = module.calibrate(data.first_batches(recipe.quantization_aware.calibration_batches))
        if trainer.is_global_zero:
            print(f"{recipe.name}: trains for 8 bits, with the ranges of {found} activations from calibration")
    make_folder(folder)
    if trainer.is_global_zero:
        write_text(folder / "recipe.yaml", recipe.to_yaml())
        note_start(folder, recipe, data.fingerprint, _names_of_devices(trainer), resume, _log_version(trainer))
        if mlflow:
            mlflow.start(folder, recipe, resume is not None)
    with warnings.catch_warnings():
        # Lightning suggests more workers and another logging interval; the recipe decides both.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        warnings.filterwarnings("ignore", message=".*across ranks is zero.*")  # validation of one task only
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # each process scores all frames
        warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")  # how Lightning calls torch
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # the average is
        try:
            trainer.fit(module, datamodule=data, ckpt_path=str(resume) if resume else None, weights_only=True)
        finally:
            lock.release()
    if trainer.is_global_zero:
        print(f"\nwaited for data {clock.waiting_share:.1%} of the training time; see {folder / 'checkpoints'}")
    return folder


def _names_of_devices(trainer: lightning.Trainer) -> list[str]:
    root = trainer.strategy.root_device
    if root.type != "cuda":
        return [root.type]
    return [torch.cuda.get_device_name(number) for number in trainer.device_ids]


def _log_version(trainer: lightning.Trainer) -> int:
    (log,) = (logger for logger in trainer.loggers if isinstance(logger, CSVLogger))
    return int(log.version)


def _look_at_frames(whole: WholeFrames, trainer: lightning.Trainer, name: str) -> None:
    """Let the teachers look at the frames whose words are not kept yet, and say how many these are."""
    if trainer.is_global_zero:
        print(f"{name}: {whole.plan}", flush=True)
    try:
        with writing_to(whole.folder):
            whole.look(trainer.strategy.root_device, trainer.global_rank, trainer.world_size)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what the teachers said so far is kept, and the same command goes on", flush=True)
        raise


def _make_trainer(
    recipe: Recipe,
    folder: Path,
    best_by: str,
    accelerator: str,
    devices: str | int,
    num_nodes: int,
    callbacks: tuple[lightning.Callback, ...],
) -> lightning.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    checkpoints = folder / "checkpoints"
    savers = [ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)]
    if best_by:
        savers.append(
            ModelCheckpoint(
                checkpoints,
                filename="best",
                monitor=best_by,
                mode="max",
                enable_version_counter=False,
                save_on_train_epoch_end=False,
            )
        )
    loggers = [CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="tensorboard")]
    several = num_nodes > 1 or str(devices) != "1"
    several_gpus = several and accelerator != "cpu" and torch.cuda.is_available()
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=recipe.precision,
        max_epochs=recipe.epochs,
        check_val_every_n_epoch=recipe.validation.every_epochs,
        num_sanity_val_steps=1 if best_by else 0,
        limit_val_batches=1.0 if best_by else 0,
        gradient_clip_val=recipe.optimizer.gradient_clip or None,
        sync_batchnorm=several_gpus,  # SyncBatchNorm refuses the CPU
        use_distributed_sampler=False,  # EpochSampler knows its part
        log_every_n_steps=LOGGED_EVERY_STEPS,
        logger=loggers,
        callbacks=[_progress(), LearningRateMonitor("step"), LastValidation(), Curves(folder), *savers, *callbacks],
        enable_progress_bar=_in_terminal(),
        enable_model_summary=False,
        plugins=[WholeCheckpoints()],
    )


def _progress() -> lightning.Callback:
    """Return a progress bar for a terminal, or a line per epoch for a log, which a bar would fill."""
    return TQDMProgressBar(refresh_rate=5) if _in_terminal() else EpochLines()


def _in_terminal() -> bool:
    return sys.stderr.isatty()
