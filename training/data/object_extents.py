"""Boxes around objects in a picture whose pixels say which object they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from training.data.labels import SourceBoxes
from training.label_sets.object_names import ObjectClass

_VALUES = 1 << 16


def boxes_of_values(
    values: NDArray[np.uint8] | NDArray[np.uint16], class_of: Callable[[int], ObjectClass | None]
) -> SourceBoxes:
    """Return a box around each object of a PNG of instances.

    Args:
        values: A number for each object, (h, w).
        class_of: Returns the class of the object with a number; None if it has no box. A class that is ignored stands
            for objects that are not told apart: each connected region gets a box.
    """
    present = np.flatnonzero(np.bincount(values.ravel(), minlength=_VALUES)).tolist()
    classes = {value: found for value in present if (found := class_of(value)) is not None}
    single = [value for value, found in classes.items() if not found.ignored]
    table = np.zeros(_VALUES, np.int32)
    table[single] = np.arange(1, len(single) + 1)
    rows = _rows(table[values], [classes[value] for value in single])
    for value, found in classes.items():
        if found.ignored:
            rows += [(corners, found.id, True) for corners in _regions(values == value)]
    return SourceBoxes.of(rows)


def boxes_of_objects(objects: NDArray[np.int32], classes: Sequence[ObjectClass]) -> SourceBoxes:
    """Return a box around each object that has pixels, with exclusive far edges.

    Args:
        objects: Number of the object of each pixel, (h, w), from 1; 0 = no object.
        classes: Class of each object.
    """
    return SourceBoxes.of(_rows(objects, classes))


def _rows(objects: NDArray[np.int32], classes: Sequence[ObjectClass]) -> list[tuple[tuple[int, ...], int, bool]]:
    """Return corners, class and whether it is ignored of each object that has pixels."""
    places = find_objects(objects, max_label=len(classes)) if classes else []
    return [
        ((place[1].start, place[0].start, place[1].stop, place[0].stop), found.id, found.ignored)
        for place, found in zip(places, classes, strict=True)
        if place is not None
    ]


def _regions(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    statistics = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2]
    return [(x, y, x + width, y + height) for x, y, width, height, _ in statistics[1:].tolist()]
