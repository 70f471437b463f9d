"""The rays of pixels by OpenCV's inverse of a lens: an oracle for our own, which goes the other way."""

from __future__ import annotations

import cv2
import numpy as np


def rays_of_pixels(pixels: np.ndarray, matrix: np.ndarray, model: str, coefficients: tuple[float, ...]) -> np.ndarray:
    """x / z and y / z, float64 `[n, 1, 2]`, of pixels float64 `[n, 1, 2]`."""
    lens = np.array(coefficients or (0.0,) * 4)
    if model == "equidistant":
        return np.asarray(cv2.fisheye.undistortPoints(pixels, matrix, lens))
    # To convergence, as OpenCV 4 and 5 call it differently.
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
    if hasattr(cv2, "undistortPointsIter"):
        return np.asarray(cv2.undistortPointsIter(pixels, matrix, lens, None, None, criteria))
    return np.asarray(cv2.undistortPoints(pixels, matrix, lens, criteria=criteria))
