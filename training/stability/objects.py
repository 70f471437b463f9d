"""Objects over time: found and lost, the jitter of their boxes, and how long it takes until one is found at first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.structures import Detections

IOU_MIN = 0.5
SAME_SIZE = 1.25  # an object whose width or height changes by more between two frames is partly hidden
WATCHED_MIN_S = 0.5  # an object that is visible for less has no latency

Box = NDArray[np.float32]


@dataclass(frozen=True)
class SeenObject:
    """A true object in one frame, and what a network found of it.

    Attributes:
        true_xyxy: float32 (4,), pixels.
        found_xyxy: float32 (4,), the box that it was found by; None if it was not found.
    """

    true_xyxy: Box
    found_xyxy: Box | None

    @property
    def height_px(self) -> float:
        """Height of the object."""
        return float(self.true_xyxy[3] - self.true_xyxy[1])


FrameObjects = Mapping[int, SeenObject]
"""The objects of one frame by their ids."""


def seen_objects(found: Detections, true_xyxy: NDArray[np.float32], labels: NDArray[np.int32], ids: NDArray[np.int32]
                 ) -> dict[int, SeenObject]:  # fmt: skip
    """Return which objects were found. A detection takes the object of its class that it covers best, best score first.

    Args:
        found: Detections that are reported, best score first.
        true_xyxy: float32 (n, 4), the objects.
        labels: int32 (n,), their classes, as those of the detections.
        ids: int32 (n,), their ids.
    """
    taken: dict[int, Box] = {}
    overlaps = iou_xyxy(found.boxes_xyxy, true_xyxy)
    for row in range(len(found)):
        free = [place for place in range(len(ids)) if labels[place] == found.labels[row] and place not in taken]
        best = max(free, key=lambda place: float(overlaps[row, place]), default=None)
        if best is not None and overlaps[row, best] >= IOU_MIN:
            taken[best] = found.boxes_xyxy[row]
    return {int(ids[place]): SeenObject(true_xyxy[place], taken.get(place)) for place in range(len(ids))}


@dataclass(frozen=True)
class ObjectChanges:
    """What happens to objects from frame to frame. Only objects count that both frames show, large and of one size.

    Attributes:
        watched: Number of pairs of frames with a view of an object, over all objects.
        found_before: How many of them were found in the earlier frame.
        lost: How many of these were not found in the later frame.
        gained: How many were found in the later frame only.
        moves_px: float64 (n,), how far the centre of a box moved beside the truth, of objects found in both frames.
        moves_share: float64 (n,), the same as a share of the height of the object.
        growths: float64 (n,), how much more the box grew than the truth, as a share of the size (root of the area).
    """

    watched: int
    found_before: int
    lost: int
    gained: int
    moves_px: NDArray[np.float64]
    moves_share: NDArray[np.float64]
    growths: NDArray[np.float64]

    @classmethod
    def of(cls, drives: Sequence[Sequence[FrameObjects]], height_min_px: float) -> ObjectChanges:
        """Return the changes in several drives; objects lower than `height_min_px` do not count."""
        pairs = [pair for frames in drives for pair in _pairs(frames, height_min_px)]
        found = [(a.found_xyxy is not None, b.found_xyxy is not None) for a, b in pairs]
        both = [(a, b) for a, b in pairs if a.found_xyxy is not None and b.found_xyxy is not None]
        moves = np.array([np.linalg.norm(_error(b)[:2] - _error(a)[:2]) for a, b in both], np.float64)
        heights = np.array([b.height_px for _, b in both], np.float64)
        growths = np.array([abs(_error(b)[2] - _error(a)[2]) for a, b in both], np.float64)
        return cls(
            len(pairs),
            sum(before for before, _ in found),
            sum(before and not after for before, after in found),
            sum(after and not before for before, after in found),
            moves,
            moves / heights,
            growths,
        )


def _pairs(frames: Sequence[FrameObjects], height_min_px: float) -> Iterator[tuple[SeenObject, SeenObject]]:
    """Yield each object in two frames in a row, if it is large in both and of the same size."""
    for earlier, later in pairwise(frames):
        for identity in earlier.keys() & later.keys():
            before, after = earlier[identity], later[identity]
            ratio = (after.true_xyxy[2:] - after.true_xyxy[:2]) / (before.true_xyxy[2:] - before.true_xyxy[:2])
            is_large = min(before.height_px, after.height_px) >= height_min_px
            if is_large and ratio.max() <= SAME_SIZE and ratio.min() >= 1 / SAME_SIZE:
                yield before, after


def _error(seen: SeenObject) -> NDArray[np.float64]:
    """Return how far a box is off: its centre in pixels, and the logarithm of its size against the truth."""
    assert seen.found_xyxy is not None
    found, true = seen.found_xyxy.astype(np.float64), seen.true_xyxy.astype(np.float64)
    centre = (found[:2] + found[2:] - true[:2] - true[2:]) / 2
    sides = (found[2:] - found[:2]) / (true[2:] - true[:2])
    return np.array([*centre, 0.5 * np.log(max(float(np.prod(sides)), 1e-9))])


def lost_by_pair(drives: Sequence[Sequence[FrameObjects]], height_min_px: float) -> list[tuple[float, float]]:
    """Return for each pair of frames how many objects were lost, and how many were found in the earlier frame."""
    rows = []
    for frames in drives:
        for pair in pairwise(frames):
            found = [after for before, after in _pairs(pair, height_min_px) if before.found_xyxy is not None]
            rows.append((float(sum(after.found_xyxy is None for after in found)), float(len(found))))
    return rows


@dataclass(frozen=True)
class FirstFound:
    """How many frames pass until an object is found at first.

    Attributes:
        frames: float64 (n,), frames from the one in which an object is large enough; 0 if it is found in this frame or
            was found before. Infinite if it is never found while it is visible.
    """

    frames: NDArray[np.float64]

    @classmethod
    def of(cls, drives: Sequence[Sequence[FrameObjects]], height_min_px: float, rate_hz: float) -> FirstFound:
        """Return the waits for all objects that come into view, or grow past `height_min_px`, during a drive.

        Objects that are as large in the first frame of a drive do not count, nor those that are visible for less than
        WATCHED_MIN_S from then on.
        """
        waits = [wait for frames in drives for wait in _waits(frames, height_min_px, WATCHED_MIN_S * rate_hz)]
        return cls(np.array(waits, np.float64))

    def quantile(self, share: float) -> float | None:
        """Return the wait in frames that a share of the objects does not exceed; None if that is infinite."""
        if not len(self.frames):
            return None
        value = float(np.sort(self.frames)[max(int(np.ceil(share * len(self.frames))) - 1, 0)])
        return value if np.isfinite(value) else None

    @property
    def never(self) -> int:
        """Number of objects that were never found."""
        return int(np.isinf(self.frames).sum())


def _waits(frames: Sequence[FrameObjects], height_min_px: float, watched_min: float) -> Iterator[float]:
    for identity in sorted({identity for objects in frames for identity in objects}):
        present = [number for number, objects in enumerate(frames) if identity in objects]
        large = [number for number in present if frames[number][identity].height_px >= height_min_px]
        if not large or large[0] == 0:
            continue
        if sum(number >= large[0] for number in present) < watched_min:
            continue
        found = [number for number in present if frames[number][identity].found_xyxy is not None]
        yield float(max(found[0] - large[0], 0)) if found else float("inf")
