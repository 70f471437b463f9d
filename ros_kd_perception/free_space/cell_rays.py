"""CellRays: the rays of the cells of an image, through any lens. Computed once for a calibration."""

from __future__ import annotations

import numpy as np

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.inverse_lens import InverseLens

MAX_CELLS = 1 << 20


class CellRays:
    """A grid of square cells over the image of a camera, and the ray of the middle of each cell.

    Pixels at the right and at the bottom that fill no cell are left out.

    Attributes:
        calibration: Calibration of the camera.
        cell_px: Side of a cell in pixels.
        rows: Number of rows of cells.
        columns: Number of columns of cells.
        rays: float64 `[rows, columns, 2]`, x / z and y / z in the optical frame. NaN where the lens model has no ray.

    Args:
        calibration: Calibration of the camera.
        cell_px: Side of a cell in pixels. Smaller images have one cell a side.

    Raises:
        ValueError: There would be more than `MAX_CELLS` cells.
    """

    def __init__(self, calibration: Calibration, cell_px: int) -> None:
        self.calibration = calibration
        self.cell_px = cell_px
        self.rows = max(calibration.height // cell_px, 1)
        self.columns = max(calibration.width // cell_px, 1)
        if self.rows * self.columns > MAX_CELLS:
            raise ValueError(
                f"expected at most {MAX_CELLS} points on the ground for an image of {calibration.width}x"
                f"{calibration.height}, got {self.columns}x{self.rows}; raise ground_points.stride_px, now {cell_px}"
            )
        middle = (cell_px - 1) / 2
        across = np.arange(self.columns) * cell_px + middle
        down = np.arange(self.rows) * cell_px + middle
        middles = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
        self.rays = InverseLens(calibration).rays(middles)[0].reshape(self.rows, self.columns, 2)
