"""The table of teachers. A kind of teacher is its settings in a file of this folder and its line in TEACHERS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from training.config.settings import Settings
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.onnx_file import OnnxTeacher
from training.teachers.settings import FusionSettings, TeacherSettings
from training.teachers.transformers_model import TransformersTeacher

TEACHERS: tuple[type[TeacherSettings], ...] = (
    CheckpointTeacher,
    TransformersTeacher,
    OnnxTeacher,
)

if TYPE_CHECKING:
    AnyTeacher = TeacherSettings
else:
    # What a recipe may name as a teacher: the settings of one of the kinds, chosen by `kind`.
    AnyTeacher = Annotated[Union[TEACHERS], Field(discriminator="kind")]  # noqa: UP007


class TeacherList(Settings):
    """Teachers that label frames, as a YAML file lists them."""

    teachers: Annotated[tuple[AnyTeacher, ...], Field(min_length=1)]
    """The teachers."""
    fusion: FusionSettings = FusionSettings()
    """How boxes of several views and teachers become one."""
