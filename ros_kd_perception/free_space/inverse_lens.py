"""InverseLens: turns pixels of a camera into rays, and tells how a ray moves with its pixel."""

from __future__ import annotations

import numpy as np

from ros_kd_perception.free_space.calibration import Calibration, Float64Array

_STEP = 1e-6  # of a ray, for the slope of the projection
_BESIDE = np.array([[[0.0, 0.0]], [[_STEP, 0.0]], [[0.0, _STEP]]])
_ITERATIONS = 10
_CLOSE_PX = 1e-6
_MAX_ERROR_PX = 1e-2


class InverseLens:
    """The inverse of `Calibration.project`, for any of its distortion models.

    Args:
        calibration: Calibration of the camera.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._center = np.array([calibration.center_x, calibration.center_y])
        self._focal = np.array([calibration.focal_x, calibration.focal_y])

    def rays(self, pixels: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return the rays of pixels, and their slopes.

        Args:
            pixels: float64 `[n, 2]`, x and y. The centre of a pixel is at an integer.

        Returns:
            float64 `[n, 2]`, x / z and y / z in the optical frame, and float64 `[n, 2, 2]`, the derivative of the ray
            (row) by the pixel (column). NaN for pixels that no ray of the lens model reaches.
        """
        straight = (pixels - self._center) / self._focal
        if not self._calibration.coefficients:
            return straight, np.broadcast_to(np.diag(1 / self._focal), (len(pixels), 2, 2))
        rays = self._calibration.straightened(straight)
        missed_px, slopes = self._missed(rays, pixels)
        for _ in range(_ITERATIONS):
            if not (np.abs(missed_px) > _CLOSE_PX).any():  # NaN stays NaN
                break
            rays = rays - (slopes @ missed_px[:, :, None])[:, :, 0]
            missed_px, slopes = self._missed(rays, pixels)
        found = np.abs(missed_px).max(axis=1) < _MAX_ERROR_PX
        return np.where(found[:, None], rays, np.nan), np.where(found[:, None, None], slopes, np.nan)

    def _missed(self, rays: Float64Array, pixels: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return how far the rays are off their pixels, and the derivative of the rays by the pixels."""
        here, right, below = self._calibration.project(rays + _BESIDE)
        (a, c), (b, d) = ((right - here).T / _STEP, (below - here).T / _STEP)
        with np.errstate(all="ignore"):
            slopes = np.stack([np.stack([d, -b], axis=-1), np.stack([-c, a], axis=-1)], axis=1)
            return here - pixels, slopes / (a * d - b * c)[:, None, None]
