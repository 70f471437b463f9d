"""Frames without labels in a ROS 2 bag: they are taken out into a folder of images first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from training.config.settings import PathText
from training.data.readers.source import Source
from training.data.readers.unlabeled import UnlabeledFolder, UnlabeledSource
from training.errors import RecipeError
from training.label_sets.mapping import LabelMapping

_SUFFIXES = (".mcap", ".db3")


class BagSource(Source):
    """A ROS 2 bag, for runs with a teacher, and to score models on. Its frames are first taken out into a folder of
    out/frames/.
    """

    labeled = False

    kind: Literal["bag"] = "bag"
    """A ROS 2 bag."""
    folder: PathText
    """The bag, a file or a folder, relative to the working directory."""
    topics: tuple[str, ...] = ()
    """Image topics to take; an empty list takes those of all cameras in the bag."""
    stride: Annotated[int, Field(ge=1)] = 1
    """Look at every n-th frame of a camera."""
    change_min: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Leave out a frame if a tiny grey picture of it differs by less than this from that of the last frame kept. The
    difference is a mean over pixels; full scale is 1."""
    teachers: PathText | None = None
    """A `.yaml` that names teachers, whose labels `evaluate` and `report` score models on; null = there are no labels.
    A training run has its teachers under `distillation`."""

    def open(self, mapping: LabelMapping) -> UnlabeledFolder:
        """Extract the frames into a folder, unless an earlier run has done so, and return its reader.

        Raises:
            DataError: The bag or a topic does not exist, no frame can be decoded, or the folder cannot be written.
            RecipeError: Teachers are named, whom only `evaluate` and `report` ask.
        """
        from training.data.bag_frames import take_frames_out
        from training.data.frame_choice import FrameChoice

        if self.teachers is not None:
            raise RecipeError(
                f"{self.folder}: teachers of a bag are for evaluate and report; name them under distillation, or let "
                "them label the frames by extract-frames --teachers"
            )
        folder = take_frames_out(self.folder, FrameChoice(self.topics, self.stride, self.change_min))
        return UnlabeledFolder(UnlabeledSource(folder=folder, limit=self.limit), mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a path is a bag: a file, or a folder with the files of one and without images."""
        if folder.is_file() or folder.suffix in _SUFFIXES:
            return True
        if (folder / "images").is_dir():
            return False
        return (folder / "metadata.yaml").is_file() or any([*folder.glob(f"*{suffix}*")] for suffix in _SUFFIXES)
