"""Calibration frames: network inputs out of any source of a recipe, spread evenly over it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import overload

import numpy as np
from tqdm import tqdm

from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Frame, UInt8Array
from training.data.frame_choice import thumbnail
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.source import Source
from training.errors import DataError
from training.quantization.settings import CalibrationSettings

FEWEST_FRAMES = 8
# Half of the frames differ by less than this from the mean frame; means over pixels of tiny grey pictures, full scale
# is 1. Frames of a parked car stay below 0.01, those of a drive reach 0.1.
ALIKE_BELOW = 0.01


class CalibrationFrames(Sequence[UInt8Array]):
    """Network inputs, uint8 [H, W, 3], made anew each time one is taken, so that any number fits into memory.

    Attributes:
        sha256: Fingerprint of the names and the pixels of all network inputs.
        notes: Sentences for the user: fewer frames than asked for, or frames that are nearly alike.
    """

    def __init__(self, calibration: CalibrationSettings, perceiver: Perceiver) -> None:
        """Choose frames and look at all of them.

        Args:
            calibration: Source and number of the frames.
            perceiver: Fits frames into the input of the network that is calibrated.

        Raises:
            DataError: The source cannot be read, has fewer than 8 frames, or shows the same picture again and again.
        """
        source = calibration.frames
        self._folder = open_unchecked(source)
        self._perceiver = perceiver
        self._chosen = evenly_spread(len(self._folder), calibration.count)
        if len(self._chosen) < FEWEST_FRAMES:
            raise DataError(
                f"{source.folder}: expected at least {FEWEST_FRAMES} frames to calibrate on, there are "
                f"{len(self._chosen)}; name a source with more, {calibration.count} are asked for"
            )
        self.notes: list[str] = []
        if len(self._chosen) < calibration.count:
            self.notes.append(
                f"{source.folder}: {calibration.count} calibration frames are asked for, there are {len(self._chosen)}"
            )
        self.sha256 = self._look_at_all(source)

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> UInt8Array: ...

    @overload
    def __getitem__(self, index: slice) -> list[UInt8Array]: ...

    def __getitem__(self, index: int | slice) -> UInt8Array | list[UInt8Array]:
        if isinstance(index, slice):
            return [self._network_input(place) for place in self._chosen[index]]
        return self._network_input(self._chosen[index])

    def _network_input(self, place: int) -> UInt8Array:
        frame = Frame("calibration", 0, "", self._folder.image_bgr(place))
        return self._perceiver.prepare(frame).network_input

    def _look_at_all(self, source: Source) -> str:
        """Return the fingerprint; refuse frames that are all the same, note frames that are nearly so."""
        digest, pictures, seen = hashlib.sha256(), [], set()
        for place in tqdm(self._chosen, desc="reading calibration frames", unit="frame", disable=None):
            image = self._network_input(place)
            pixels = hashlib.sha256(image.tobytes()).digest()
            digest.update(self._folder.names[place].encode() + b"\0" + pixels)
            seen.add(pixels)
            pictures.append(thumbnail(image))
        if len(seen) == 1:
            raise DataError(
                f"{source.folder}: expected different calibration frames, all {len(self)} are the same picture; name "
                "frames of a drive"
            )
        apart = np.abs(np.stack(pictures) - np.mean(pictures, axis=0)).mean(axis=(1, 2))
        if float(np.median(apart)) < ALIKE_BELOW:
            self.notes.append(
                f"{source.folder}: the calibration frames are nearly alike, as of a parked car; ranges of activations "
                "will be too narrow on a drive, add frames of other scenes"
            )
        return digest.hexdigest()


def open_unchecked(source: Source) -> FrameFolder:
    """Open a source for its images. Its labels are not checked.

    Raises:
        DataError: There is no frame.
    """
    return source.open(source.mapping_to(None, str(source.folder)))


def evenly_spread(available: int, count: int) -> list[int]:
    """Return up to `count` places of `available` ones, from the first to the last, each once."""
    return sorted({round(place) for place in np.linspace(0, available - 1, min(count, available))})
