"""Frames without labels in a ROS 2 bag: they are taken out into a folder of images first."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from training.config.settings import PathText
from training.data.readers.source import Source
from training.data.readers.unlabeled import UnlabeledFolder, UnlabeledSource
from training.label_sets.mapping import LabelMapping


class BagSource(Source):
    """A ROS 2 bag, for runs with a teacher. Its frames are taken out into a folder of out/frames/ first."""

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

    def open(self, mapping: LabelMapping) -> UnlabeledFolder:
        """Extract the frames into a folder, unless an earlier run has done so, and return its reader.

        Raises:
            DataError: The bag or a topic does not exist, no frame can be decoded, or the folder cannot be written.
        """
        from training.data.bag_frames import take_frames_out
        from training.data.frame_choice import FrameChoice

        folder = take_frames_out(self.folder, FrameChoice(self.topics, self.stride, self.change_min))
        return UnlabeledFolder(UnlabeledSource(folder=folder, limit=self.limit), mapping)
