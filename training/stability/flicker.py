"""Flicker: pixels whose class changes between two frames although they show the same piece of the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.flow import Flow
from training.label_sets.label_set import UNLABELED_ID

EDGE_SHARE = 1 / 160  # of the width: a cell of a class map of stride 4 in an input of 640 pixels

ClassMap = NDArray[np.uint8]


@dataclass(frozen=True)
class FlickerCounts:
    """Pixels of one or several pairs of frames.

    Attributes:
        pixels: int64 (classes,), pixels that both frames show, by the class in the earlier frame.
        flips: int64 (classes,), those of them that have another class in the later frame.
        beyond_edges: int64 (classes,), those flips that an outline which moves by EDGE_SHARE does not explain.
    """

    pixels: NDArray[np.int64]
    flips: NDArray[np.int64]
    beyond_edges: NDArray[np.int64]

    @classmethod
    def none(cls, classes: int) -> FlickerCounts:
        """Return the counts of no frames."""
        return cls(*(np.zeros(classes, np.int64) for _ in range(3)))

    def __add__(self, other: FlickerCounts) -> FlickerCounts:
        return FlickerCounts(
            self.pixels + other.pixels, self.flips + other.flips, self.beyond_edges + other.beyond_edges
        )

    @property
    def share(self) -> float | None:
        """Share of the pixels that flip, 0..1; None without pixels."""
        return _share(self.flips, self.pixels)

    @property
    def share_beyond_edges(self) -> float | None:
        """Share of the pixels that flip beyond edges, 0..1; None without pixels."""
        return _share(self.beyond_edges, self.pixels)


@dataclass(frozen=True)
class FlickerMap:
    """The flips of one pair of frames, bool (h, w) each, on the pixels of the later frame.

    Attributes:
        counted: Pixels that both frames show, and of which both have a class.
        flips: Pixels with another class than before.
        beyond_edges: Flips that no small move of an outline explains.
        before: Class before, uint8 (h, w), where counted.
    """

    counted: NDArray[np.bool_]
    flips: NDArray[np.bool_]
    beyond_edges: NDArray[np.bool_]
    before: ClassMap

    def counts(self, classes: int) -> FlickerCounts:
        """Return the numbers of pixels by the class before."""

        def by_class(where: NDArray[np.bool_]) -> NDArray[np.int64]:
            return np.bincount(self.before[where], minlength=classes)[:classes].astype(np.int64)

        return FlickerCounts(by_class(self.counted), by_class(self.flips), by_class(self.beyond_edges))


def flicker_map(earlier: ClassMap, later: ClassMap, flow: Flow) -> FlickerMap:
    """Return which pixels of the later of two class maps have flipped.

    A flip lies beyond edges if the class before is not found within EDGE_SHARE of the width around the pixel in the
    later map, or the class after not around it in the earlier one. Outlines of all networks move a little: their class
    maps are coarser than the frame.

    Args:
        earlier: Class ids, uint8 (h, w); pixels of 255 do not count.
        later: Class ids, uint8 (h, w).
        flow: Motion of the pixels of the later frame.
    """
    before = np.asarray(flow.brought(earlier), np.uint8)
    counted = flow.visible & (before != UNLABELED_ID) & (later != UNLABELED_ID)
    flips = counted & (before != later)
    radius = max(1, round(EDGE_SHARE * later.shape[1]))
    near = _found_near(later, before, flips, radius) & _found_near(before, later, flips, radius)
    return FlickerMap(counted, flips, flips & ~near, before)


def in_cells(class_map: ClassMap, cell_px: float) -> ClassMap:
    """Return a class map of a network without error, whose cells are larger than pixels: the commonest class of each.

    Args:
        class_map: Class ids, uint8 (h, w).
        cell_px: Width and height of a cell in pixels; cells of a pixel and less change nothing.

    Returns:
        uint8 (h, w).
    """
    height, width = class_map.shape
    cells = max(1, round(width / cell_px)), max(1, round(height / cell_px))
    if cell_px <= 1:
        return class_map
    most, found = np.zeros(cells[::-1], np.float32), np.zeros(cells[::-1], np.uint8)
    for label in np.unique(class_map):
        share: Any = cv2.resize((class_map == label).astype(np.float32), cells, interpolation=cv2.INTER_AREA)
        found[share > most] = label
        most = np.maximum(most, share)
    return np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _found_near(class_map: ClassMap, wanted: ClassMap, where: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Return whether a map has the wanted class of a pixel within `radius` pixels of it, bool (h, w)."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    found = np.zeros(class_map.shape, np.bool_)
    for label in np.unique(wanted[where]):
        grown: Any = cv2.dilate((class_map == label).view(np.uint8), kernel)
        found |= (wanted == label) & (grown > 0)
    return found


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> float | None:
    return float(part.sum() / whole.sum()) if whole.sum() else None
