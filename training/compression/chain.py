"""Run a chain: its steps one after the other, then the figures, the report and, within the budget, the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.compression.figures import measure, open_frames
from training.compression.kept_stage import kept_stage, key_of
from training.compression.losses import beyond_budget
from training.compression.parent import parent_stage
from training.compression.recipe import CompressionRecipe
from training.compression.report import write_report
from training.compression.result import write_result
from training.compression.stage import Stage
from training.compression.steps import ChainRun
from training.compression.training_step import step_in_words
from training.errors import RecipeError

PARENT, KEPT_FIGURES = "parent", "figures"


class BudgetError(RecipeError):
    """The result of a chain lost more than its recipe allows. It was not written."""


@dataclass(frozen=True)
class Compressed:
    """What a chain ended with.

    Attributes:
        text: The table of the report, for the terminal.
        folder: Folder with the report and the steps.
        output: The written file.
    """

    text: str
    folder: Path
    output: Path


def compress(recipe: CompressionRecipe, accelerator: str, devices: str) -> Compressed:
    """Run a chain, or go on with one that was stopped: finished steps and scored frames are not repeated.

    Args:
        recipe: The chain.
        accelerator: Lightning's accelerator for steps that train.
        devices: Lightning's devices for steps that train.

    Raises:
        BudgetError: The result lost too much. The report is written, the file is not.
        CheckpointError, DataError, ModelError, ModelFileError, RecipeError: A step or a file cannot be used.
    """
    folder = recipe.folder / recipe.name
    stages = run_steps(recipe, folder, accelerator, devices)
    figures = measure(
        {name: stage.file for name, stage in stages.items()}, recipe.scores, recipe.threads, folder / KEPT_FIGURES
    )
    last = list(stages)[-1]
    beyond = beyond_budget(figures, last, recipe.budget)
    text = write_report(folder, recipe.name, figures, stages[last], beyond)
    print(text)
    if beyond:
        raise BudgetError(
            f"{recipe.name}: {recipe.output} was not written, for the result {'; it '.join(beyond)}; allow more, "
            f"choose milder steps, or train for 8 bits (aware); the report is in {folder}"
        )
    write_result(recipe, stages[last], figures.row(last))
    return Compressed(text, folder, recipe.output)


def run_steps(recipe: CompressionRecipe, folder: Path, accelerator: str, devices: str) -> Mapping[str, Stage]:
    """Run the steps that are not finished yet; return all stages by their names, the parent first."""
    naming = {"student_name": recipe.student_name, "version": recipe.version}
    first = folder / "0_parent"
    stage = kept_stage(
        first,
        key_of({"step": PARENT, **naming}, recipe.parent),
        lambda: parent_stage(recipe.parent, first, recipe.student_name, recipe.version),
    )
    open_frames(recipe.scores, stage.file)  # says what is wrong with them before the first step
    run = ChainRun(recipe, stage, accelerator, devices)
    stages = {PARENT: stage}
    for number, step in enumerate(recipe.steps, 1):
        place = folder / f"{number}_{step.kind}"
        print(f"\nstep {number} of {len(recipe.steps)}: {step.kind}", flush=True)
        before = stage
        key = key_of({"step": step_in_words(step, recipe), **naming}, before.weights or before.file)
        stage = kept_stage(place, key, partial(run.run, step, before, place))
        print(stage.said[-1], flush=True)
        stages[step.kind] = stage
    return stages
