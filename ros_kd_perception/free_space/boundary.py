"""Finds the free space in the image: for each column, the first row from below that is not drivable.

A planner can read this directly, without processing a mask, and it takes a fraction of a millisecond to compute. Class
names say what is drivable. All other classes and unlabeled pixels end the free space.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import cv2
import numpy as np

from ros_kd_perception.free_space.parameters import AUTO, DRIVABLE_WITHOUT_A_LIST
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Int32Array, UInt8Array

# Rows that are processed at once. They and the intermediate arrays stay in the processor's second-level cache.
_BLOCK_ROWS = 64
_ROW_IN_BLOCK = np.arange(1, _BLOCK_ROWS + 1, dtype=np.uint8)[:, None]


def blocked_classes(contract: ModelContract, drivable: Sequence[str]) -> UInt8Array:
    """Return a table of the class ids that end free space: uint8 `[256]`, 0 for drivable ids, 255 for all others.

    Args:
        contract: Contract of the model.
        drivable: Names of its classes, or AUTO for those that its file names as drivable.

    Raises:
        ValueError: The model does not do segmentation, or a drivable class is not a class of its mask.
    """
    if contract.class_map is None:
        raise ValueError(
            f"expected a model that does segmentation for free space, got {contract.name}, which does "
            f"{' and '.join(contract.tasks)}; use another model, or leave out drivable_classes and scan.enabled"
        )
    ids = {info.name: info.id for info in contract.segmentation_classes}
    table = np.full(256, 255, np.uint8)
    named = contract.class_map.drivable or DRIVABLE_WITHOUT_A_LIST
    for name in named if list(drivable) == AUTO else drivable:
        if name not in ids:
            nearest = difflib.get_close_matches(name, ids, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ValueError(
                f"expected drivable_classes to be classes of the model {contract.name}, which has {', '.join(ids)}, "
                f"got {name!r}{hint or '; set drivable_classes to those that are free to drive on'}"
            )
        table[ids[name]] = 0
    return table


def free_space_boundary(
    class_map: UInt8Array, blocked: UInt8Array, max_gap_px: int = 0, ignore_bottom_px: int = 0
) -> Int32Array:
    """Find the row in each column where the free space ends.

    Args:
        class_map: uint8 `[height, width]`.
        blocked: Return value of `blocked_classes`.
        max_gap_px: Up to this many consecutive rows that are not drivable do not end the free space if the row above
            them is drivable. A run that touches the top of the image always ends it.
        ignore_bottom_px: Rows at the bottom that show the vehicle itself. At least one row is kept.

    Returns:
        int32 `[width]`: the first row from below that is not drivable, counted from the top. All rows between it and
        the ignored ones are free. -1 if the whole column is free.
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
            # After the erosion, a row is blocked only if the `gap` rows above it are blocked too.
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
