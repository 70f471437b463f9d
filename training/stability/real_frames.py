"""Real frames in time: the images of a folder in the order of their names, or an image topic of a bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.bags.reader import BagError
from ros_kd_perception.structures import Frame
from training.data.frame_choice import FrameChoice, FrameChooser
from training.data.image_files import read_image
from training.data.image_listing import list_images
from training.errors import DataError
from training.stability.image_flow import image_flow
from training.stability.sequence import SequenceFrame

IMAGES = "images"


@dataclass(frozen=True)
class RealFrames:
    """Frames of a folder or bag, with motion that is estimated from the images.

    Attributes:
        path: A folder of images, a folder with images/, or a bag.
        topic: Image topic of a bag; empty for its only one.
        limit: Number of frames, from the first on; 0 takes all.
    """

    path: Path
    topic: str = ""
    limit: int = 0
    rate_hz: float | None = None

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self.path.name or str(self.path)

    @property
    def is_bag(self) -> bool:
        """Whether the path is a bag and not a folder of images."""
        return self.path.is_file() or (self.path / "metadata.yaml").is_file()

    def check(self) -> None:
        """Refuse what holds no frames, before anything slow begins.

        Raises:
            DataError: There is no such folder or bag, it holds no frames, or several topics and none is chosen.
        """
        if self.is_bag:
            try:
                with FrameChoice(self._topics).open(self.path) as reader:
                    cameras = reader.cameras
            except BagError as error:
                raise DataError(str(error)) from error
            if len(cameras) != 1:
                raise DataError(
                    f"{self.path}: expected one image topic, or --topic with one of {', '.join(cameras.values())}"
                )
        elif len(self._files()) < 2:
            raise DataError(f"{self.path}: expected at least two frames that follow each other, got one; add frames")

    def __len__(self) -> int:
        if self.is_bag:
            with FrameChoice(self._topics).open(self.path) as reader:
                count = reader.count(reader.cameras.values())
            return min(count, self.limit) if self.limit else count
        return len(self._files())

    def __iter__(self) -> Iterator[SequenceFrame]:
        before: NDArray[np.uint8] | None = None
        for name, image in self._of_bag() if self.is_bag else self._of_folder():
            yield SequenceFrame(name, image, None if before is None else image_flow(before, image))
            before = image

    @property
    def _topics(self) -> tuple[str, ...]:
        return (self.topic,) if self.topic else ()

    def _files(self) -> list[Path]:
        inner = self.path / IMAGES
        files = list_images(inner if inner.is_dir() else self.path)
        return files[: self.limit] if self.limit else files

    def _of_folder(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for path in self._files():
            yield path.stem, read_image(path)

    def _of_bag(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        choice = FrameChoice(self._topics, change_min=0.0, max_frames=self.limit)
        try:
            with choice.open(self.path) as reader:
                for chosen in FrameChooser(reader, choice):
                    if isinstance(chosen.frame, Frame):
                        yield f"{chosen.camera} {chosen.number}", np.ascontiguousarray(chosen.frame.image_bgr)
        except BagError as error:
            raise DataError(str(error)) from error
