"""Says which classes of the student a run has neither labels nor teachers for."""

from __future__ import annotations

from collections.abc import Iterator

from training.distillation.loss import DistillationLoss
from training.label_sets.gaps import unlabeled_classes
from training.losses import SupervisedLoss
from training.recipe import Recipe
from training.run.frames import RunFrames
from training.teachers.ensemble import Ensemble


def classes_without_labels(recipe: Recipe, frames: RunFrames, objective: SupervisedLoss | DistillationLoss) -> str:
    """Return which classes no source and no teacher labels, for example `boxes of rider`; empty if there are none.

    Args:
        recipe: Recipe of the run.
        frames: Its frames.
        objective: Its loss, with the teachers.
    """
    drawn = [source for entry, source in zip(recipe.data.train, frames.sources, strict=True) if entry.share > 0]
    known = {
        "segmentation": [list(source.mapping.covered_segmentation) for source in drawn],
        "detection": [list(source.mapping.covered_detection) for source in drawn if source.box_weight > 0],
    }
    if isinstance(objective, DistillationLoss):
        for task, classes in _taught(recipe, objective.ensemble):
            known[task] += classes
    if recipe.trained_part == "detection":
        del known["segmentation"]
    return unlabeled_classes(frames.label_set, known)


def _taught(recipe: Recipe, teachers: Ensemble) -> Iterator[tuple[str, list[list[bool]]]]:
    """Yield tasks with the classes that each teacher of a term knows. Terms of features teach no class."""
    assert recipe.distillation is not None
    for term in recipe.distillation.terms:
        if term.teacher_part == "pixels":
            yield "segmentation", teachers.known["segmentation"]
        elif "detection" in term.student_tasks:
            yield "detection", teachers.known["detection"]
