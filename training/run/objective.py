"""The loss of a run: that of the labels or, if the recipe has a teacher, a distillation loss."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from training.distillation.cache import OutputCache
from training.distillation.loss import DistillationLoss
from training.distillation.teacher import Teacher, check_teacher
from training.label_sets.label_set import LabelSet
from training.losses import SupervisedLoss
from training.networks.student import Student
from training.recipe import Recipe


def build_objective(
    recipe: Recipe, student: Student, classes: LabelSet, data_fingerprint: str
) -> SupervisedLoss | DistillationLoss:
    """Build the loss of a recipe, and load and check its teacher.

    Args:
        recipe: Recipe of the run.
        student: Network to train.
        classes: Its label set.
        data_fingerprint: Digest of the training frames; a cache of the teacher's outputs depends on it.

    Returns:
        A module that is called with outputs, batch and epoch.

    Raises:
        CheckpointError: The teacher file is not a checkpoint, or its outputs do not fit those of the student.
    """
    hard = SupervisedLoss(recipe.loss.segmentation, recipe.loss.detection, recipe.loss.class_weights)
    settings = recipe.distillation
    if settings is None:
        return hard
    teacher = Teacher.load(settings.teacher, classes)
    examples = check_teacher(student, teacher, settings.teacher)
    if settings.cache:
        teacher.keep_outputs_in(OutputCache(Path(settings.cache), _cache_key(recipe, teacher, data_fingerprint)))
    return DistillationLoss(settings, hard, teacher, examples)


def cache_growth(
    recipe: Recipe, objective: SupervisedLoss | DistillationLoss, frames: int, frames_seen: int
) -> tuple[Path, int] | None:
    """Return the folder of the teacher's outputs and the bytes that a run adds to it; None without a cache.

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


def _cache_key(recipe: Recipe, teacher: Teacher, data_fingerprint: str) -> str:
    """Return the digest of everything that the teacher's outputs depend on: teacher, frames and augmentation."""
    data = recipe.data.model_dump(mode="json")
    unrelated = ("samples_per_epoch", "workers")
    parts = {
        "teacher": teacher.weights_sha256,
        "frames": data_fingerprint,
        "data": {name: value for name, value in data.items() if name not in unrelated},
        "augmentation": recipe.augmentation.model_dump(),
        "seed": recipe.seed,
        "precision": recipe.precision,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()
