"""Bring a run to its end, wherever it stands: not begun, stopped on the way, or finished."""

from __future__ import annotations

from training.checkpoint import read_notes
from training.errors import writing_to
from training.recipe import Recipe, is_noted_recipe
from training.run.inputs import RunInputs, has_other_classes
from training.run.run_files import folder_of, last_checkpoint_of
from training.run.train import train


def finish_run(recipe: Recipe, inputs: RunInputs, accelerator: str, devices: str) -> None:
    """Train a run to its end: from the start or from its checkpoint. Do nothing if it is finished.

    A run of another recipe in the same folder, or with changed files behind the same recipe, starts again.

    Args:
        recipe: Recipe of the run.
        inputs: What the run learns from now.
        accelerator: Lightning's accelerator.
        devices: Lightning's devices.
    """
    checkpoint = last_checkpoint_of(recipe)
    resume, anew = None, False
    if checkpoint.is_file():
        notes = read_notes(checkpoint)
        noted = (str(notes.get("recipe_sha256")), str(notes.get("recipe")))
        changed = inputs.differences(notes) if is_noted_recipe(recipe, *noted) else ["another recipe"]
        changed += ["another label set"] if has_other_classes(notes, recipe.student_classes()) else []
        if changed:
            print(f"{checkpoint} was trained with {' and '.join(changed)} than now: the run starts again")
            anew = True
        elif notes.get("epoch") == recipe.epochs:
            print("finished before")
            return
        else:
            resume = checkpoint
    with writing_to(folder_of(recipe)):
        train(recipe, resume, accelerator, devices, anew=anew)
