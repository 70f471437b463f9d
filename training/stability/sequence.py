"""A sequence of frames in time, each with the motion of its pixels since the frame before, as far as it is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.flow import Flow


@dataclass(frozen=True)
class FrameTruth:
    """The exact labels of a frame.

    Attributes:
        class_map: uint8 (h, w), class ids of the renderer; 255 is not labelled.
        boxes_xyxy: float32 (n, 4), pixels.
        labels: int32 (n,), classes of boxes of the renderer.
        instance_ids: int32 (n,); an object has the same id in every frame.
    """

    class_map: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int32]
    instance_ids: NDArray[np.int32]


@dataclass(frozen=True)
class SequenceFrame:
    """A frame of a sequence.

    Attributes:
        name: Name of the frame, for errors and pictures.
        image_bgr: uint8 (h, w, 3).
        flow: Where its pixels were in the frame before; None for the first frame, and where the frames do not follow
            each other.
        truth: Its labels; None for real frames.
    """

    name: str
    image_bgr: NDArray[np.uint8]
    flow: Flow | None
    truth: FrameTruth | None = None


class FrameSequence(Protocol):
    """Frames in time."""

    @property
    def name(self) -> str:
        """Name of the sequence."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """Frames per second; None if it is not known."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SequenceFrame]: ...
