"""Compares two class maps of one frame pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ros_kd_perception.differences.classes import CommonClasses
from ros_kd_perception.structures import UInt8Array

CountTable = npt.NDArray[np.int64]

_BLOCK_PX = 1 << 19  # the indices of a block fit into the cache


@dataclass(frozen=True)
class MaskDifference:
    """How many pixels have which class on both sides.

    Attributes:
        pixels: int64 `[n + 1, n + 1]`, rows are classes of the old side, columns those of the new side, in the order of
            the n common names. The last row and column are pixels without a class. Pixels that have no class on both
            sides are not counted.
        left_out: Number of pixels with a class that only one side has.
    """

    pixels: CountTable
    left_out: int

    @property
    def compared(self) -> int:
        """Number of pixels that were compared."""
        return int(self.pixels.sum())

    @property
    def changed(self) -> int:
        """Number of compared pixels whose class differs."""
        return self.compared - int(np.trace(self.pixels))

    @property
    def changed_share(self) -> float | None:
        """Share of the compared pixels whose class differs, 0..1. None if no pixel was compared."""
        return share(self.changed, self.compared)

    @property
    def left_out_share(self) -> float | None:
        """Share of the pixels that were left out, 0..1. None without pixels."""
        return share(self.left_out, self.left_out + self.compared)


def compare_masks(old: UInt8Array, new: UInt8Array, classes: CommonClasses) -> MaskDifference:
    """Count the pixels by the classes of both sides.

    Args:
        old: uint8 `[height, width]`, class ids of the old side.
        new: uint8 `[height, width]`, class ids of the new side.
        classes: Names of the ids.
    """
    size = len(classes.names) + 2
    counts = np.zeros(size * size, np.int64)
    # One table gives both factors of the joint index, so that a block is looked up twice and added once.
    old_base = classes.old_index * size
    old_flat, new_flat = old.reshape(-1), new.reshape(-1)
    for first in range(0, old_flat.size, _BLOCK_PX):
        block = slice(first, first + _BLOCK_PX)
        joint = old_base[old_flat[block]] + classes.new_index[new_flat[block]]
        counts += np.bincount(joint, minlength=size * size)
    table = counts.reshape(size, size)
    left_out = int(table[-1].sum() + table[:-1, -1].sum())
    pixels = table[:-1, :-1].copy()
    pixels[-1, -1] = 0
    return MaskDifference(pixels, left_out)


def class_ious(pixels: CountTable) -> npt.NDArray[np.float64]:
    """Return the IoU of each class between both sides, float64 `[n]`. NaN for a class that neither side sees.

    Args:
        pixels: int64 `[n + 1, n + 1]`, as in `MaskDifference`.
    """
    both = np.diag(pixels)[:-1].astype(np.float64)
    either = pixels.sum(axis=1)[:-1] + pixels.sum(axis=0)[:-1] - both
    ious = np.full(len(both), np.nan)
    np.divide(both, either, out=ious, where=either > 0)
    return ious


def share(part: float, whole: float) -> float | None:
    """Return a share, or None of nothing."""
    return part / whole if whole else None
