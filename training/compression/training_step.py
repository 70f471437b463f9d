"""The steps of a chain that train: recovery after pruning, and training for 8 bits, with the parent as teacher."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.compression.recipe import AnyStep, CompressionRecipe, DistilSettings
from training.config.loading import apply_override, read_settings_text
from training.config.yaml_text import read_yaml
from training.data.readers.source import Source
from training.errors import RecipeError
from training.label_sets.label_set import LabelSet
from training.pruning.settings import PruneSettings
from training.quantization.settings import AwareSettings, QuantiseSettings
from training.recipe import Recipe, parse_recipe
from training.run.present_sources import with_present_sources

RUN = "run"


def recipe_of_step(path: Path, overrides: Sequence[str], start: Path, parent: Path, folder: Path) -> Recipe:
    """Return the recipe of a step: that of a file, with start, teacher and folder of the chain.

    Args:
        path: The file.
        overrides: Changes as `key=value`.
        start: Weights of the step before, from which the run starts.
        parent: Weights of the parent, which teaches unless the recipe has `distillation.teachers`.
        folder: Folder of the step; the run gets a folder in it.

    Raises:
        RecipeError: The recipe cannot be read, or it has nothing to learn from a teacher.
    """
    text = read_settings_text(path)
    try:
        content = read_yaml(text)
        for override in overrides:
            apply_override(content, override)
        distillation = content.get("distillation")
    except (AttributeError, TypeError, ValueError) as error:
        raise RecipeError(f"{path}: expected a recipe of train, got: {error}") from error
    if not isinstance(distillation, dict):
        raise RecipeError(
            f"{path}: expected a section distillation with terms, so that the parent of the chain can teach, it has "
            "none; add one, or name another recipe"
        )
    teacher = (
        [] if distillation.get("teachers") else [f"distillation.teacher={json.dumps(str(parent), allow_nan=False)}"]
    )
    own = [
        f"name={RUN}",
        f"output={json.dumps(str(folder), allow_nan=False)}",
        f"initial_weights={json.dumps(str(start), allow_nan=False)}",
        *teacher,
    ]
    return with_present_sources(parse_recipe(text, [*overrides, *own], str(path)))


def train_step(recipe: Recipe, accelerator: str, devices: str) -> Path:
    """Train, or go on with a run that was stopped, and return its last checkpoint."""
    from training.run.finish import finish_run
    from training.run.frames import RunFrames
    from training.run.lightning_module import StudentTraining
    from training.run.run_files import last_checkpoint_of

    inputs = StudentTraining(recipe, 1, RunFrames(recipe).fingerprint).inputs
    finish_run(recipe, inputs, accelerator, devices)
    return last_checkpoint_of(recipe)


def step_in_words(step: AnyStep, recipe: CompressionRecipe) -> dict[str, Any]:
    """Return the settings of a step with all that they name: a recipe with its frames and teachers, and other frames.

    Files count by their content: one that was replaced may have the name and the size of the one before.

    Raises:
        CheckpointError, DataError, ModelFileError, RecipeError: Frames or a teacher cannot be read.
    """
    words: dict[str, Any] = {"settings": step.model_dump(mode="json")}
    training = _training_of(step)
    if training is not None:
        planned = _planned(training, recipe)
        words["recipe"] = planned.to_yaml()
        words["data"] = [_content_of(source, planned.student_classes()) for source in planned.data.train]
        teachers = planned.distillation.all_teachers if planned.distillation else ()
        words["teachers"] = [teacher.open().sha256 for teacher in teachers]
    if isinstance(step, QuantiseSettings) and step.calibration is not None:
        words["frames"] = _pictures_of(step.calibration.frames)
    labelled = _labelled_frames_of(step)
    if labelled is not None:
        words["labelled"] = _content_of(labelled)
    return words


def _content_of(source: Source, student: LabelSet | None = None) -> str:
    """Return the digest of the pictures and the labels of a source."""
    return source.open(source.mapping_to(student, str(source.folder))).fingerprint()


def _pictures_of(source: Source) -> list[tuple[str, str]]:
    """Return the names and digests of the pictures of a source, whose labels may be missing."""
    from training.quantization.calibration import open_unchecked

    frames = open_unchecked(source)
    return [(name, frames.image_sha256(place)) for place, name in enumerate(frames.names)]


def _labelled_frames_of(step: AnyStep) -> Source | None:
    if isinstance(step, PruneSettings):
        return step.frames
    return step.mixed.frames if isinstance(step, QuantiseSettings) and step.mixed is not None else None


def check_steps(recipe: CompressionRecipe) -> None:
    """Read the recipes of all steps that train, before anything slow starts.

    Raises:
        RecipeError: One of them cannot be used.
    """
    for step in recipe.steps:
        training = _training_of(step)
        if training is None:
            continue
        aware = isinstance(training, AwareSettings)
        if aware != (_planned(training, recipe).quantization_aware is not None):
            raise RecipeError(
                f"{training.recipe}: expected a recipe {'with' if aware else 'without'} quantization_aware for the "
                f"step {step.kind}{' with aware' if aware else ''}; name another, or change the section"
            )


def _training_of(step: AnyStep) -> DistilSettings | AwareSettings | None:
    if isinstance(step, QuantiseSettings):
        return step.aware
    return step if isinstance(step, DistilSettings) else None


def _planned(training: DistilSettings | AwareSettings, recipe: CompressionRecipe) -> Recipe:
    """Return the recipe of a step as far as it is known before the chain runs."""
    folder = recipe.folder / recipe.name
    return recipe_of_step(training.recipe, training.overrides, recipe.parent, recipe.parent, folder)
