"""Checks the files of a run before torch is loaded: its folder, the checkpoints that it starts from, and its frames."""

from __future__ import annotations

from pathlib import Path

from ros_kd_perception.system.output_paths import check_writable
from training.errors import CheckpointError
from training.recipe import Recipe
from training.run.frames import RunFrames


def folder_of(recipe: Recipe) -> Path:
    """Return the folder that a run writes into."""
    return recipe.output / recipe.name


def last_checkpoint_of(recipe: Recipe) -> Path:
    """Return the path of the checkpoint that a run writes after each epoch."""
    return folder_of(recipe) / "checkpoints" / "last.ckpt"


def check_new_folder(recipe: Recipe) -> None:
    """Refuse a new run whose folder already holds a run.

    Raises:
        CheckpointError: The new run would overwrite its checkpoints.
    """
    last = last_checkpoint_of(recipe)
    if last.exists():
        raise CheckpointError(
            f"{last}: expected a new run's folder, found a run of this name, which would be overwritten; continue it "
            "with --resume, choose another name by --override name=NAME, or delete the folder"
        )


def check_files(recipe: Recipe, resume: Path | None = None) -> None:
    """Refuse a run that cannot write its files, or whose checkpoints to start from are missing.

    Args:
        recipe: Recipe of the run.
        resume: Checkpoint to resume from; its weights replace those of `initial_weights`.

    Raises:
        OutputPathError: The folder of the run or of the teacher's outputs is not writable.
        CheckpointError: The teacher, the checkpoint to resume from or one of `initial_weights` is not a file.
    """
    check_writable(folder_of(recipe))
    needed = [resume] if resume else [Path(start) for start in recipe.starts]
    if recipe.distillation is not None:
        needed += [Path(checkpoint) for checkpoint in recipe.distillation.checkpoints]
        if recipe.distillation.cache:
            check_writable(Path(recipe.distillation.cache))
    for checkpoint in needed:
        CheckpointError.check_file(checkpoint)


def open_run(recipe: Recipe, resume: Path | None = None, anew: bool = False) -> RunFrames:
    """Check all files of a run and open its frames.

    Args:
        recipe: Recipe of the run.
        resume: Checkpoint to resume from.
        anew: Whether checkpoints in the run's folder may be overwritten.

    Raises:
        OutputPathError: See `check_files`.
        CheckpointError: See `check_files` and `check_new_folder`.
        DataError: See `RunFrames`.
    """
    check_files(recipe, resume)
    if resume is None and not anew:
        check_new_folder(recipe)
    return RunFrames(recipe)
