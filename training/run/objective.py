"""The loss of a run: that of the labels or, if the recipe has teachers, a distillation loss."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from training.data.readers.frame_folder import FrameFolder
from training.distillation.cache import OutputCache
from training.distillation.loss import DistillationLoss
from training.distillation.second_look import SecondLook
from training.distillation.teacher import Teachers, check_teachers
from training.distillation.whole_frames import WholeFrames
from training.label_sets.label_set import LabelSet
from training.losses import SupervisedLoss
from training.networks.student import Student
from training.recipe import Recipe
from training.teachers.ensemble import Ensemble


def build_objective(
    recipe: Recipe, student: Student, classes: LabelSet, data_fingerprint: str
) -> SupervisedLoss | DistillationLoss:
    """Build the loss of a recipe, and load and check its teachers.

    Args:
        recipe: Recipe of the run.
        student: Network to train.
        classes: Its label set.
        data_fingerprint: Digest of the training frames; a cache of what the teachers say depends on it.

    Returns:
        A module that is called with outputs, batch and epoch.

    Raises:
        CheckpointError, ModelFileError, RecipeError: A teacher cannot be used, or a term compares what it lacks.
    """
    hard = SupervisedLoss(recipe.loss.segmentation, recipe.loss.detection, recipe.loss.class_weights)
    settings = recipe.distillation
    if settings is None:
        return hard
    where = "distillation.teachers" if settings.teachers else "distillation.teacher"
    teachers = Teachers(Ensemble.open(settings.all_teachers, settings.fusion, classes, where))
    examples = check_teachers(student, teachers, settings.terms, recipe.data.crop_height, recipe.data.crop_width)
    if settings.cache and settings.look == "view":
        teachers.keep_outputs_in(OutputCache(Path(settings.cache), _cache_key(recipe, teachers, data_fingerprint)))
    return DistillationLoss(settings, hard, teachers, examples, SecondLook(student))


def whole_frames(
    recipe: Recipe, objective: SupervisedLoss | DistillationLoss, sources: Sequence[FrameFolder]
) -> WholeFrames | None:
    """Return the frames that the teachers look at before the run; None unless the recipe wants them to.

    Args:
        recipe: Recipe of the run.
        objective: Loss of the run, with the teachers.
        sources: Readers of the training frames, in the order of the recipe.
    """
    settings = recipe.distillation
    if settings is None or settings.look != "frame" or not isinstance(objective, DistillationLoss):
        return None
    pairs = zip(recipe.data.train, sources, strict=True)
    drawn = [source if entry.share > 0 and entry.taught else None for entry, source in pairs]
    return WholeFrames(objective.ensemble, Path(settings.cache), drawn)


def cache_growth(
    recipe: Recipe, objective: SupervisedLoss | DistillationLoss, frames: int, frames_seen: int
) -> tuple[Path, int] | None:
    """Return the folder of what teachers say about views and the bytes that a run adds to it; None if none is kept.

    Args:
        recipe: Recipe of the run.
        objective: Loss of the run.
        frames: Number of frames in all training sources.
        frames_seen: Number of samples in all epochs together.
    """
    if not isinstance(objective, DistillationLoss):
        return None
    views = min(frames * recipe.data.views_per_frame, frames_seen)
    return objective.cache_growth(views, recipe.data.crop_height * recipe.data.crop_width)


def _cache_key(recipe: Recipe, teachers: Teachers, data_fingerprint: str) -> str:
    """Return the digest of everything that the words of the teachers depend on: teachers, frames and augmentation."""
    data = recipe.data.model_dump(mode="json")
    unrelated = ("samples_per_epoch", "workers")
    parts = {
        "teachers": teachers.ensemble.key,
        "frames": data_fingerprint,
        "data": {name: value for name, value in data.items() if name not in unrelated},
        "augmentation": recipe.augmentation.model_dump(),
        "seed": recipe.seed,
        "precision": recipe.precision,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()
