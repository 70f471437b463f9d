"""Free space in the image: for each column, the first row from below that is not drivable.

A planner reads it in a moment where a mask takes it some work, and it costs a fraction of a millisecond. What is
drivable is said by class names; whatever else the mask holds, unlabeled pixels included, ends the free space.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import cv2
import numpy as np

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Int32Array, UInt8Array

# Rows that are looked at in one go: they and what is made of them stay in the processor's second-level cache.
_BLOCK_ROWS = 64
_ROW_IN_BLOCK = np.arange(1, _BLOCK_ROWS + 1, dtype=np.uint8)[:, None]


def blocked_classes(contract: ModelContract, drivable: Sequence[str]) -> UInt8Array:
    """Which class ids end free space: uint8 `[256]`, 0 for the drivable classes, 255 for all others and no class.

    Raises:
        ValueError: a name that is no class of the model's mask.
    """
    ids = {info.name: info.id for info in contract.class_map.classes}
    table = np.full(256, 255, np.uint8)
    for name in drivable:
        if name not in ids:
            nearest = difflib.get_close_matches(name, ids, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ValueError(
                f"expected drivable_classes to be of the model {contract.name}, which has {', '.join(ids)}, got "
                f"{name!r}{hint}"
            )
        table[ids[name]] = 0
    return table


def free_space_boundary(
    class_map: UInt8Array, blocked: UInt8Array, max_gap_px: int = 0, ignore_bottom_px: int = 0
) -> Int32Array:
    """Where the free space of each column ends.

    Args:
        class_map: uint8 `[height, width]`.
        blocked: as `blocked_classes` returns it.
        max_gap_px: so many rows one upon the other, or fewer, that are not drivable do not end the free space if
            what is above them is drivable. A run that reaches the top of the image counts as if it went on.
        ignore_bottom_px: rows at the bottom that show the vehicle itself and say nothing; at most all but one.

    Returns:
        int32 `[width]`: the first row from below that is not drivable, rows counted from the top. All rows between
        it and those ignored are free; -1 where the whole column is.
    """
    height, width = class_map.shape
    bottom = height - min(max(ignore_bottom_px, 0), height - 1)
    gap = min(max(max_gap_px, 0), height)
    kernel = np.ones((gap + 1, 1), np.uint8)
    boundary = np.full(width, -1, np.int32)
    while bottom > 0:
        top = max(bottom - _BLOCK_ROWS, 0)
        context = max(top - gap, 0)
        ends = np.asarray(cv2.LUT(class_map[context:bottom], blocked), np.uint8)
        if gap:
            # What is left is blocked, and so are the `gap` rows above it.
            eroded = cv2.erode(ends, kernel, anchor=(0, gap), borderType=cv2.BORDER_CONSTANT, borderValue=255)
            ends = np.asarray(eroded, np.uint8)[top - context :]
        last = np.bitwise_and(ends, _ROW_IN_BLOCK[: bottom - top]).max(axis=0)
        found = last > 0
        found &= boundary < 0
        np.copyto(boundary, last + np.int32(top - 1), where=found)
        if boundary.min() >= 0:
            break
        bottom = top
    return boundary
