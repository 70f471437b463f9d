"""The file that `extract-frames --teachers` takes, and the labels of its teachers. Reading it does not load torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from training.config.loading import load_settings
from training.label_sets.loading import load_label_set
from training.teachers.registry import TeacherList

if TYPE_CHECKING:
    from training.teachers.labeling import FrameLabeler


class TeachersFile(TeacherList):
    """Teachers of extracted frames: the keys are those of a recipe and of its section `distillation`."""

    label_set: Annotated[str, Field(min_length=1)]
    """Classes of the labels, those of the student to come: the name of a set in training/label_sets/, or the path of a
    YAML file."""


def open_labeler(path: Path, device: str = "cpu") -> FrameLabeler:
    """Load the teachers that a file names.

    Args:
        path: A YAML file, see `TeachersFile`.
        device: Device of the teachers that run in PyTorch.

    Raises:
        CheckpointError, ModelFileError, RecipeError: The file is not valid, a teacher cannot be used, or a class of it
            maps to nothing.
    """
    settings = load_settings(path, TeachersFile)
    student = load_label_set(settings.label_set)

    from training.teachers.ensemble import Ensemble
    from training.teachers.labeling import FrameLabeler

    ensemble = Ensemble.open(settings.teachers, settings.fusion, student, f"{path}: teachers")
    return FrameLabeler(ensemble, device)
