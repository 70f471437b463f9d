"""Seamless noise pictures, the source of all grain, stains and clouds."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def seamless_noise(rng: np.random.Generator, size_px: int, cells: int, octaves: int = 4) -> NDArray[np.float32]:
    """Return value noise that repeats without a seam, float32 (size_px, size_px), about -1..1.

    Args:
        rng: Source of the lattice values.
        size_px: Edge of the square.
        cells: Lattice cells along the edge of the coarsest octave.
        octaves: Number of octaves. Each has twice the cells and 0.6 times the height of the one before.
    """
    total = np.zeros((size_px, size_px), np.float32)
    height = 1.0
    for octave in range(octaves):
        count = min(cells << octave, size_px)
        lattice = rng.standard_normal((count, count)).astype(np.float32)
        padded: Any = np.pad(lattice, 2, mode="wrap")
        step = size_px / count
        grid = (np.arange(size_px, dtype=np.float32) + 0.5) / np.float32(step) + 1.5
        columns, rows = np.meshgrid(grid, grid)
        total += np.float32(height) * cv2.remap(padded, columns, rows, cv2.INTER_CUBIC)
        height *= 0.6
    return np.asarray(total / max(float(np.abs(total).max()), 1e-6), np.float32)


def stains(rng: np.random.Generator, height_px: int, width_px: int, cell_px: float) -> NDArray[np.float32]:
    """Return smooth blotches, float32 (height_px, width_px), about -1..1; quick to make, but not seamless."""
    rows, columns = max(int(height_px / cell_px), 1) + 2, max(int(width_px / cell_px), 1) + 2
    lattice: Any = rng.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(lattice, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.float32)


def apply_gain(picture: NDArray[np.uint8], gain: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Multiply a BGR picture uint8 (h, w, 3) by a gain float32 (h, w), saturating."""
    return np.asarray(np.clip(picture * gain[..., None] + 0.5, 0, 255), np.uint8)


_GRAIN_PX = 1024


@cache
def _grain_tile() -> NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal((_GRAIN_PX, _GRAIN_PX), np.float32)


def grain(rng: np.random.Generator, height_px: int, width_px: int) -> NDArray[np.float32]:
    """Return pixel noise of variance 1, float32 (height_px, width_px): cut from one tile, repeated when too small."""
    tile = _grain_tile()
    y, x = (int(value) for value in rng.integers(0, _GRAIN_PX // 2, 2))
    rows, columns = (np.arange(y, y + height_px) % _GRAIN_PX, np.arange(x, x + width_px) % _GRAIN_PX)
    if y + height_px <= _GRAIN_PX and x + width_px <= _GRAIN_PX:
        return tile[y : y + height_px, x : x + width_px]
    return tile[np.ix_(rows, columns)]
