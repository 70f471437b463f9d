"""The files of a run, looked at before torch is loaded: where it writes, what it starts from, and its frames."""

from __future__ import annotations

from pathlib import Path

from ros_kd_perception.system.output_paths import check_writable
from training.errors import CheckpointError
from training.recipe import Recipe
from training.run.frames import RunFrames


def folder_of(recipe: Recipe) -> Path:
    """The folder that a run writes into."""
    return recipe.output / recipe.name


def last_checkpoint_of(recipe: Recipe) -> Path:
    """Where the last weights of a run are, once it has finished an epoch."""
    return folder_of(recipe) / "checkpoints" / "last.ckpt"


def check_new_folder(recipe: Recipe) -> None:
    """Refuse a run whose folder holds another of the same name.

    Raises:
        CheckpointError: it would be overwritten.
    """
    last = last_checkpoint_of(recipe)
    if last.exists():
        raise CheckpointError(
            f"{last}: expected a new run's folder, there is a run of this name already, which would be overwritten; "
            "go on with it by --resume, choose another name by --override name=NAME, or delete the folder"
        )


def check_files(recipe: Recipe, resume: Path | None = None) -> None:
    """Refuse a run that cannot write its files, or whose checkpoints to start from are not there.

    Args:
        recipe: of the run.
        resume: the checkpoint that it goes on from, which brings the weights that `initial_weights` would.

    Raises:
        OutputPathError: nothing can be written to the folder of the run or of the teacher's outputs.
        CheckpointError: the teacher, the checkpoint to go on from or one of `initial_weights` is no file.
    """
    check_writable(folder_of(recipe))
    needed = [resume] if resume else [Path(start) for start in recipe.starts]
    if recipe.distillation is not None:
        needed.append(Path(recipe.distillation.teacher))
        if recipe.distillation.cache:
            check_writable(Path(recipe.distillation.cache))
    for checkpoint in needed:
        CheckpointError.check_file(checkpoint)


def open_run(recipe: Recipe, resume: Path | None = None, anew: bool = False) -> RunFrames:
    """Look at all files of a run.

    Args:
        recipe: of the run.
        resume: the checkpoint that it goes on from.
        anew: the run's folder may hold checkpoints of before, which are overwritten.

    Raises:
        OutputPathError, CheckpointError, DataError: see `check_files`, `check_new_folder` and `RunFrames`.
    """
    check_files(recipe, resume)
    if resume is None and not anew:
        check_new_folder(recipe)
    return RunFrames(recipe)
