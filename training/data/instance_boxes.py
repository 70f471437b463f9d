"""Boxes around the instances of a mask in which each pixel holds its class and the number of its object."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.labels import SourceBoxes

NUMBERS_OF_A_CLASS = 256


def boxes_of_instances(
    values: NDArray[np.uint8] | NDArray[np.uint16],
    box_ids: Mapping[int, int],
    numbers_of_a_class: int = NUMBERS_OF_A_CLASS,
) -> SourceBoxes:
    """Return a box around each object, with exclusive far edges.

    Args:
        values: Class x `numbers_of_a_class` + number of the object, (h, w). Number 0 stands for objects that are not
            told apart: the box around each of their regions teaches nothing.
        box_ids: Id of boxes for each class that has boxes.
        numbers_of_a_class: How many numbers each class has.
    """
    rows: list[tuple[tuple[int, ...], int, bool]] = []
    for value in np.unique(values).tolist():
        class_id, number = divmod(value, numbers_of_a_class)
        if class_id not in box_ids:
            continue
        region = (values == value).astype(np.uint8)
        if number:
            rows.append((_corners(*cv2.boundingRect(region)), box_ids[class_id], False))
        else:
            statistics = cv2.connectedComponentsWithStats(region, connectivity=8)[2][1:].tolist()
            rows += [(_corners(*row[:4]), box_ids[class_id], True) for row in statistics]
    return SourceBoxes.of(rows)


def _corners(left: int, top: int, width: int, height: int) -> tuple[int, ...]:
    return left, top, left + width, top + height
