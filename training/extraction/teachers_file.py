"""The file that `extract-frames --teachers` takes, and the labels of its teachers. Reading it does not load torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ros_kd_perception.structures import UInt8Array
from training.config.loading import load_settings
from training.label_sets.loading import load_label_set
from training.teachers.registry import TeacherList

if TYPE_CHECKING:
    from training.teachers.pseudo_labels import PseudoLabels


class TeachersFile(TeacherList):
    """Teachers of extracted frames, with the classes of the labels."""

    label_set: Annotated[str, Field(min_length=1)]
    """Classes of the labels, those of the student to come: the name of a set in training/label_sets/, or the path of a
    YAML file."""


def load_teachers_file(path: Path) -> TeachersFile:
    """Read the file.

    Raises:
        RecipeError: It cannot be read, or a key or value is not valid.
    """
    return load_settings(path, TeachersFile)


class TeacherLabels:
    """Labels frames by teachers; see `Labeler`."""

    def __init__(self, settings: TeachersFile, soft: bool = False, device: str = "cpu") -> None:
        """Load the teachers.

        Args:
            settings: The teachers and the classes of the labels.
            soft: Whether the probabilities of all classes are wanted, too.
            device: Device of the teachers that run in PyTorch.

        Raises:
            CheckpointError, ModelFileError, RecipeError: A teacher cannot be used, or a class of it maps to nothing.
        """
        from training.teachers.ensemble import Ensemble
        from training.teachers.labeling import FrameLabeler

        self.label_set = load_label_set(settings.label_set)
        ensemble = Ensemble.open(settings.teachers, settings.fusion, self.label_set)
        self._labeler = FrameLabeler(ensemble, device, with_probabilities=soft)
        decides = [ensemble.sha256, settings.model_dump(mode="json"), self.label_set.model_dump(mode="json"), soft]
        self.sha256 = hashlib.sha256(json.dumps(decides, allow_nan=False).encode()).hexdigest()

    def __call__(self, image_bgr: UInt8Array) -> PseudoLabels:
        """Return the labels of an image, uint8 [h, w, 3]."""
        return self._labeler.label_frame(image_bgr)
