"""Rays of pixels by OpenCV's inverse of a lens: a reference for our own code, which computes the other direction."""

from __future__ import annotations

import cv2
import numpy as np


def rays_of_pixels(pixels: np.ndarray, matrix: np.ndarray, model: str, coefficients: tuple[float, ...]) -> np.ndarray:
    """Return x / z and y / z, float64 `[n, 1, 2]`, for pixels float64 `[n, 1, 2]`."""
    lens = np.array(coefficients or (0.0,) * 4)
    if model == "equidistant":
        return np.asarray(cv2.fisheye.undistortPoints(pixels, matrix, lens))
    # Runs to convergence; OpenCV 4 and 5 have different names for it.
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
    if hasattr(cv2, "undistortPointsIter"):
        return np.asarray(cv2.undistortPointsIter(pixels, matrix, lens, None, None, criteria))
    return np.asarray(cv2.undistortPoints(pixels, matrix, lens, criteria=criteria))
