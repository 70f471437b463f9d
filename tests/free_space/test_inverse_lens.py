"""Tests the rays of pixels against OpenCV's inverse of each lens, and their slopes against the projection."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from opencv_rays import rays_of_pixels

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.inverse_lens import InverseLens

K = np.array([[500.0, 0.0, 321.5], [0.0, 510.0, 178.25], [0.0, 0.0, 1.0]])
LENSES = {
    "pinhole": ("plumb_bob", ()),
    "plumb_bob": ("plumb_bob", (-0.31, 0.11, 0.0008, -0.0004, -0.02)),
    "rational_polynomial": ("rational_polynomial", (0.5, -0.1, 0.0003, 0.0002, 0.01, 0.8, -0.05, 0.02)),
    "equidistant": ("equidistant", (-0.02, 0.004, -0.003, 0.0005)),
}


def calibration(lens: str) -> Calibration:
    model, coefficients = LENSES[lens]
    return Calibration(640, 360, K[0, 0], K[1, 1], K[0, 2], K[1, 2], model, coefficients)


@pytest.mark.parametrize("lens", LENSES)
def test_rays_are_those_of_opencv(lens: str) -> None:
    made = calibration(lens)
    pixels = np.random.default_rng(1).uniform((0, 0), (640, 360), (300, 2))
    rays, _ = InverseLens(made).rays(pixels)
    expected = rays_of_pixels(pixels[:, None], K, made.model, made.coefficients)[:, 0]
    np.testing.assert_allclose(rays, expected, atol=1e-6)
    np.testing.assert_allclose(made.project(rays), pixels, atol=1e-5)


@pytest.mark.parametrize("lens", LENSES)
def test_slopes_are_those_of_neighbouring_pixels(lens: str) -> None:
    made = InverseLens(calibration(lens))
    pixels = np.random.default_rng(2).uniform((5, 5), (635, 355), (50, 2))
    _, slopes = made.rays(pixels)
    for axis, step in enumerate(np.eye(2) * 0.01):
        numerical = (made.rays(pixels + step)[0] - made.rays(pixels - step)[0]) / 0.02
        np.testing.assert_allclose(slopes[:, :, axis], numerical, rtol=1e-4, atol=1e-8)


def test_a_pixel_that_the_lens_shows_nothing_of_has_no_ray() -> None:
    # This barrel distortion folds back: the image never gets wider than about 0.5 / sqrt(0.9) rays.
    made = Calibration(640, 360, 300.0, 300.0, 320.0, 180.0, "plumb_bob", (-0.3, 0.0, 0.0, 0.0))
    rays, slopes = InverseLens(made).rays(np.array([[320.0, 180.0], [630.0, 350.0], [330.0, np.nan]]))
    assert np.allclose(rays[0], 0.0)
    assert np.isnan(rays[1:]).all()
    assert np.isnan(slopes[1:]).all()


def test_a_strong_fisheye_is_inverted_up_to_its_border() -> None:
    lens, half = (0.05, 0.01, -0.02, 0.004), 300.0
    made = Calibration(600, 600, 230.0, 230.0, half, half, "equidistant", lens)
    angles = np.linspace(0.0, np.arctan(made.ray_limit) - 0.01, 40)
    points = np.stack([np.sin(angles), np.zeros(40), np.cos(angles)], axis=-1)[:, None]
    matrix = np.array([[230.0, 0, half], [0, 230.0, half], [0, 0, 1.0]])
    pixels, _ = cv2.fisheye.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(lens))
    rays, _ = InverseLens(made).rays(pixels[:, 0])
    np.testing.assert_allclose(rays[:, 0], np.tan(angles), rtol=1e-5)
