"""CellRays: the rays of the cells of an image, through any lens. Computed once for a calibration."""

from __future__ import annotations

import numpy as np

from ros_kd_perception.free_space.calibration import Calibration, Float64Array

MAX_CELLS = 1 << 20
_ROUNDS = 30
_DONE_PX = 1e-4
_LARGEST_ERROR_PX = 0.05


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
        self.rays = rays_of_pixels(calibration, np.stack(np.meshgrid(across, down), axis=-1))


def rays_of_pixels(calibration: Calibration, pixels: Float64Array) -> Float64Array:
    """Return the rays of pixels: the inverse of `Calibration.project`.

    Args:
        calibration: Calibration of the camera.
        pixels: float64 `[..., 2]`, column and row. The centre of a pixel is at an integer.

    Returns:
        float64 `[..., 2]`, x / z and y / z in the optical frame. NaN for pixels that the lens model does not reach.
    """
    focal = np.array((calibration.focal_x, calibration.focal_y))
    center = np.array((calibration.center_x, calibration.center_y))
    bent = (pixels - center) / focal
    if not calibration.coefficients:
        return np.asarray(bent)
    # A table undoes the radial distortion. What is left, above all the tangential distortion, takes a few steps.
    rays = calibration.straightened(np.asarray(bent))
    with np.errstate(all="ignore"):
        for _ in range(_ROUNDS):
            error_px = calibration.project(rays) - pixels
            if not (np.abs(error_px) > _DONE_PX).any():
                break
            rays = rays - error_px / focal
        error_px = np.abs(calibration.project(rays) - pixels).max(axis=-1, keepdims=True)
    return np.where(error_px <= _LARGEST_ERROR_PX, rays, np.nan)
