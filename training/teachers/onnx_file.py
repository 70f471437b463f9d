"""The teacher kind `onnx`: any ONNX file, described in a few lines of YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from training.config.settings import PathText
from training.teachers.settings import TeacherSettings

if TYPE_CHECKING:
    from training.teachers.onnx_network import OnnxNetwork


class OnnxTeacher(TeacherSettings):
    """An ONNX file of others that segments or detects, with a description of its input and outputs."""

    kind: Literal["onnx"]
    """An ONNX file of others."""
    path: PathText
    """The .onnx file."""
    describe: PathText
    """The description: a YAML file that says what its input and its outputs mean, as for `adopt`."""
    device: Literal["auto", "tensorrt", "cuda", "cpu"] = "auto"
    """Where ONNX Runtime runs it; `auto` takes the fastest that is there."""

    @property
    def name(self) -> str:
        """See `TeacherSettings.name`."""
        return str(self.path)

    def open(self) -> OnnxNetwork:
        """See `TeacherSettings.open`."""
        from training.teachers.onnx_network import OnnxNetwork

        return OnnxNetwork.load(self)
