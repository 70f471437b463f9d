"""Confidence masks: the uncertainty of a perception for each pixel, as consumers of masks expect it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ros_kd_perception.structures import Perception, UInt8Array, UncertaintyCells

SURE = 255
"""Confidence of a pixel whose class the network does not doubt."""


def confidence_mask(perception: Perception) -> UInt8Array | None:
    """Return the confidence of each pixel of the class map, see `confidence_at`."""
    if perception.class_map is None:
        return None
    height, width = perception.class_map.shape
    return confidence_at(perception, range(height), range(width))


def confidence_at(perception: Perception, rows_px: Sequence[int], columns_px: Sequence[int]) -> UInt8Array | None:
    """Return the confidence of pixels on a grid: 255 x (1 - uncertainty of the cell that the pixel is in).

    Neighbouring pixels share a cell, because the network says no more about them. Pixels outside of the region of
    interest have the confidence 0.

    Args:
        perception: A perception.
        rows_px: Rows of the grid in pixels of the source image, ascending.
        columns_px: Columns of the grid in pixels of the source image, ascending.

    Returns:
        uint8 `[rows, columns]`, C-contiguous. None if the model has no uncertainty.
    """
    cells, uncertainty = perception.uncertainty_cells, perception.uncertainty
    if cells is None or uncertainty is None:
        return None
    levels = np.rint(SURE * (1.0 - np.clip(uncertainty, 0.0, 1.0))).astype(np.uint8)
    # A row and a column of zeros for the pixels outside of the region.
    levels = np.pad(levels, ((0, 1), (0, 1)))
    rows, columns = _cell_indices(cells, rows_px, columns_px, levels)
    return levels.take(columns, axis=1).take(rows, axis=0)


def _cell_indices(
    cells: UncertaintyCells, rows_px: Sequence[int], columns_px: Sequence[int], levels: UInt8Array
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    region = cells.region
    return (
        _indices(rows_px, region.y, region.height, cells.height_px, levels.shape[0] - 1),
        _indices(columns_px, region.x, region.width, cells.width_px, levels.shape[1] - 1),
    )


def _indices(pixels: Sequence[int], start_px: int, extent_px: int, cell_px: float, count: int) -> npt.NDArray[np.intp]:
    """Return the cell of each pixel, and `count` for those outside of the region."""
    offset = np.asarray(pixels, np.float64) - start_px
    found = np.minimum(((offset + 0.5) / cell_px).astype(np.intp), count - 1)
    return np.where((offset >= 0) & (offset < extent_px), found, count)
