"""Finds frames of the validation that the training has, too: the same file, nearly the same picture, or the same drive.

Nearly the same pictures are found by a difference hash: of a tiny grey picture, whether each pixel is brighter than its
right neighbour. Re-encoding and resizing change few of the bits. N. Krawetz, "Kind of Like That", hackerfactor.com,
2013, describes the hash with 8 x 8 bits; 16 x 16 tell frames of one drive apart.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.inspection.facts import GRID_PX, FrameFacts

# Measured on frames of CamVid, KITTI, nuScenes and Udacity: copies at half the size and JPEG quality 50 differ by at
# most 24 bits and 0.0044, neighbours of a moving car by at least 0.0050.
NEAR_BITS_MAX = 24  # of 256
NEAR_DIFFERENCE_MAX = 0.0045  # mean over a tiny picture; full scale is 1
_ROWS_AT_A_TIME = 4096
_NUMBER = re.compile(r"\d{2,}")


@dataclass(frozen=True)
class Pair:
    """Two frames that show the same.

    Attributes:
        training: Image file of the training.
        validation: Image file of the validation.
        identical: Whether the files have the same bytes. They may even be one file.
    """

    training: Path
    validation: Path
    identical: bool


@dataclass(frozen=True)
class SharedDrive:
    """A drive with frames in the training and in the validation.

    Attributes:
        name: How the names of its frames begin.
        training: Number of its frames in the training.
        validation: Number of its frames in the validation.
    """

    name: str
    training: int
    validation: int


def pairs_of(training: Sequence[FrameFacts], validation: Sequence[FrameFacts]) -> list[Pair]:
    """Return each frame of the validation that the training has, too, with its most similar frame there."""
    if not training or not validation:
        return []
    by_bytes = {frame.sha256: frame.path for frame in reversed(training)}
    files = {frame.path for frame in training}
    found, rest = [], []
    for frame in validation:
        if frame.sha256 in by_bytes:
            same = frame.path if frame.path in files else by_bytes[frame.sha256]
            found.append(Pair(same, frame.path, identical=True))
        else:
            rest.append(frame)
    return found + _near_pairs(training, rest)


def repeated_in(frames: Sequence[FrameFacts]) -> list[list[Path]]:
    """Return the groups of image files with the same bytes."""
    by_bytes: dict[bytes, list[Path]] = defaultdict(list)
    for frame in frames:
        if frame.path not in by_bytes[frame.sha256]:
            by_bytes[frame.sha256].append(frame.path)
    return [paths for paths in by_bytes.values() if len(paths) > 1]


def shared_drives(training: Sequence[FrameFacts], validation: Sequence[FrameFacts]) -> list[SharedDrive]:
    """Return the drives with frames on both sides, at least two in the training. A number alone names no drive."""
    ours, theirs = (Counter(map(drive_of, frames)) for frames in (training, validation))
    shared = sorted(drive for drive in ours.keys() & theirs if drive and ours[drive] > 1)
    return [SharedDrive(drive, ours[drive], theirs[drive]) for drive in shared]


def drive_of(frame: FrameFacts) -> str:
    """Return the name of a frame up to its last number of two digits or more, without the separator."""
    numbers = list(_NUMBER.finditer(frame.path.stem))
    return frame.path.stem[: numbers[-1].start()].rstrip("_-. ") if numbers else ""


def _near_pairs(training: Sequence[FrameFacts], validation: Sequence[FrameFacts]) -> list[Pair]:
    if not validation:
        return []
    theirs = _signs(training)
    tiny = np.stack([frame.tiny for frame in training]).astype(np.float32)
    found = []
    for start in range(0, len(validation), _ROWS_AT_A_TIME):
        frames = validation[start : start + _ROWS_AT_A_TIME]
        bits = (GRID_PX**2 - _signs(frames) @ theirs.T) / 2  # how many differ
        for frame, distances in zip(frames, bits, strict=True):
            near = np.flatnonzero(distances <= NEAR_BITS_MAX)
            differences = np.abs(tiny[near] - frame.tiny).mean(axis=(1, 2)) / 255
            if len(near) and differences.min() <= NEAR_DIFFERENCE_MAX:
                found.append(Pair(training[near[differences.argmin()]].path, frame.path, identical=False))
    return found


def _signs(frames: Sequence[FrameFacts]) -> NDArray[np.float32]:
    """Return the hashes as float32 (n, bits) of -1 and 1: a product of two counts the bits that are equal."""
    tiny = np.stack([frame.tiny for frame in frames])
    brighter = (tiny[:, :, 1:] > tiny[:, :, :-1]).reshape(len(frames), -1)
    return 2 * brighter.astype(np.float32) - 1
