"""A condition: something that makes frames harder, at five severities, and the frames that it makes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.data.sample import Sample

if TYPE_CHECKING:
    from training.evaluation.frame_recorder import LabeledFrames

SEVERITIES = (1, 2, 3, 4, 5)
CHANGES_VERSION = 1  # of the formulas and severities in this room; kept scores of older ones are not used
SENSOR, LENS, WEATHER, LIGHT, OBJECTS, VIEWPOINT = FAMILIES = (
    "sensor",
    "lens",
    "weather",
    "light",
    "objects",
    "viewpoint",
)

Image = NDArray[np.uint8]
Change = Callable[[Sample, float, np.random.Generator], Sample]
"""Returns a frame in a condition: gets the frame, the value of the severity, and a generator of random numbers."""
ImageChange = Callable[[Image, float, np.random.Generator], Image]
"""Returns the picture uint8 (h, w, 3) BGR in a condition. The labels of the frame stay."""


@dataclass(frozen=True)
class Condition:
    """What all conditions have in common.

    Attributes:
        name: Name in options, files and pictures.
        family: One of FAMILIES.
        words: What happens to a frame, in a few words.
        parameter: What `values` are, with their unit.
        values: Value of each severity, from slight to extreme.
        source: Where the formula comes from.
    """

    name: str
    family: str
    words: str
    parameter: str
    values: tuple[float, float, float, float, float]
    source: str

    def value(self, severity: int) -> float:
        """Return the value of a severity 1..5."""
        return self.values[severity - 1]


@dataclass(frozen=True)
class FrameCondition(Condition):
    """A condition that is made from any labelled frame.

    The random numbers follow from the names of frame and condition. All severities of a frame share them: the same
    flakes, blobs or rows become more, so that a curve over severities shows the severity and not another draw.

    Attributes:
        change: Changes a frame.
        moves_labels: Whether masks or boxes change, too.
    """

    change: Change
    moves_labels: bool = False

    def applied(self, sample: Sample, severity: int) -> Sample:
        """Return a frame in this condition; severity 0 returns the frame itself.

        Args:
            sample: The frame. It is not changed.
            severity: 0..5.
        """
        if severity == 0:
            return sample
        rng = np.random.default_rng([zlib.crc32(sample.name.encode()), zlib.crc32(self.name.encode())])
        return self.change(sample, self.value(severity), rng)


def of_image(change: ImageChange) -> Change:
    """Return a change of a frame that changes its picture only."""

    def changed(sample: Sample, value: float, rng: np.random.Generator) -> Sample:
        return replace(sample, image_bgr=change(sample.image_bgr, value, rng))

    return changed


class ChangedFrames:
    """Labelled frames, each of them in a condition. Frames are changed when they are read."""

    def __init__(self, frames: LabeledFrames, condition: FrameCondition, severity: int) -> None:
        """Take frames and what happens to them; severity 0..5."""
        self._frames, self._condition, self._severity = frames, condition, severity

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        return self._condition.applied(self._frames[index], self._severity)

    def fingerprint(self) -> str:
        """Return a digest of the frames and of what happens to them."""
        condition = self._condition
        what = (CHANGES_VERSION, condition.name, condition.value(self._severity))
        return hashlib.sha256(f"{self._frames.fingerprint()} {what}".encode()).hexdigest()


class KeptFingerprint:
    """Labelled frames whose fingerprint is computed once: it reads every file."""

    def __init__(self, frames: LabeledFrames) -> None:
        """Take frames that do not change any more."""
        self._frames, self._fingerprint = frames, frames.fingerprint()

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        return self._frames[index]

    def fingerprint(self) -> str:
        """Return the fingerprint of the frames."""
        return self._fingerprint


def named(conditions: Sequence[Condition], names: Sequence[str]) -> tuple[Condition, ...]:
    """Return the conditions of some names or families, in the order of the table; all of them without a name."""
    return tuple(each for each in conditions if not names or each.name in names or each.family in names)
