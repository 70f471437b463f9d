"""The teacher kind `checkpoint`: a network that `python -m training train` made, with any classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from training.config.settings import PathText
from training.teachers.settings import TeacherSettings

if TYPE_CHECKING:
    from training.teachers.own_network import OwnNetwork


class CheckpointTeacher(TeacherSettings):
    """A network of ours. Its averaged weights teach, and its features and detection branches can, too."""

    kind: Literal["checkpoint"]
    """A checkpoint of `python -m training train`."""
    path: PathText
    """The .ckpt file."""

    @property
    def name(self) -> str:
        """See `TeacherSettings.name`."""
        return str(self.path)

    def open(self) -> OwnNetwork:
        """See `TeacherSettings.open`."""
        from training.teachers.own_network import OwnNetwork

        return OwnNetwork.load(self.path)
