"""What a run minimises: the loss of the labels or, where the recipe has a teacher, that and the teacher's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from training.distillation.cache import OutputCache
from training.distillation.loss import DistillationLoss
from training.distillation.teacher import Teacher, check_teacher
from training.losses import SupervisedLoss
from training.networks.student import Student
from training.recipe import Recipe


def build_objective(recipe: Recipe, student: Student, data_fingerprint: str) -> SupervisedLoss | DistillationLoss:
    """The loss of a recipe, called with outputs, batch and epoch; its teacher is loaded and checked.

    Raises:
        CheckpointError: the teacher's file is none, or it cannot be compared with the student.
    """
    hard = SupervisedLoss(recipe.loss.segmentation, recipe.loss.detection, recipe.loss.class_weights)
    settings = recipe.distillation
    if settings is None:
        return hard
    teacher = Teacher.load(settings.teacher)
    examples = check_teacher(student, teacher, settings.teacher)
    if settings.cache:
        teacher.keep_outputs_in(OutputCache(Path(settings.cache), _cache_key(recipe, teacher, data_fingerprint)))
    return DistillationLoss(settings, hard, teacher, examples)


def cache_growth(
    recipe: Recipe, objective: SupervisedLoss | DistillationLoss, frames: int, frames_seen: int
) -> tuple[Path, int] | None:
    """The folder of the teacher's outputs and the bytes that a run will add to it; None where none are kept.

    Args:
        recipe: of the run.
        objective: of it.
        frames: of all training sources.
        frames_seen: in all epochs together.
    """
    if not isinstance(objective, DistillationLoss):
        return None
    views = min(frames * recipe.data.views_per_frame, frames_seen)
    return objective.cache_growth(views, recipe.data.crop_height * recipe.data.crop_width)


def _cache_key(recipe: Recipe, teacher: Teacher, data_fingerprint: str) -> str:
    """Digest of all that the outputs of a named view depend on: the teacher, the frames and how views are made."""
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
