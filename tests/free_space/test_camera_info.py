"""Tests `CameraInfoFields`: what passes on unchanged, what describes smaller images, and refusals."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.cell_rays import CellRays

K = [500.0, 0.0, 321.5, 0.0, 510.0, 178.25, 0.0, 0.0, 1.0]
P = [480.0, 0.0, 320.5, -48.0, 0.0, 490.0, 177.0, 0.0, 0.0, 0.0, 1.0, 0.0]
EYE = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
LENS = [-0.31, 0.11, 0.0008, -0.0004, -0.02]


def region(**changes: int) -> SimpleNamespace:
    return SimpleNamespace(**({"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False} | changes))


def camera_info(**changes: Any) -> SimpleNamespace:
    fields = {
        "width": 640, "height": 360, "distortion_model": "plumb_bob", "d": LENS, "k": K, "r": EYE, "p": P,
        "binning_x": 0, "binning_y": 0, "roi": region(),
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def message_of(fields: CameraInfoFields) -> SimpleNamespace:
    x_offset, y_offset, height, width = fields.region
    roi = region(x_offset=x_offset, y_offset=y_offset, height=height, width=width, do_rectify=fields.do_rectify)
    names = ("width", "height", "distortion_model", "d", "k", "r", "p", "binning_x", "binning_y")
    return SimpleNamespace(**{name: getattr(fields, name) for name in names}, roi=roi)


def test_all_fields_are_kept() -> None:
    roi = region(x_offset=2, y_offset=4, width=320, height=180, do_rectify=True)
    message = camera_info(binning_x=2, binning_y=3, roi=roi)
    fields = CameraInfoFields.from_message(message)
    assert (fields.k, fields.p, fields.d, fields.r) == (tuple(K), tuple(P), tuple(LENS), tuple(EYE))
    assert fields.region == (2, 4, 180, 320)
    assert fields.do_rectify
    assert fields.image_size == (60, 160)
    assert CameraInfoFields.from_message(message_of(fields)) == fields


@given(
    st.integers(1, 8), st.integers(0, 3), st.integers(0, 3), st.integers(0, 200), st.integers(0, 100),
    st.integers(0, 440), st.integers(0, 260),
)  # fmt: skip
def test_the_camera_info_of_cells_projects_to_their_middles(
    side: int, binning_x: int, binning_y: int, x_offset: int, y_offset: int, width: int, height: int
) -> None:
    """Rays of the cells of the image, by the calibration of the image, fall on the pixels of the smaller image."""
    if width == 0 or height == 0:
        x_offset = y_offset = width = height = 0
    roi = region(x_offset=x_offset, y_offset=y_offset, width=width, height=height)
    message = camera_info(d=[], binning_x=binning_x, binning_y=binning_y, roi=roi)
    cells = CellRays(Calibration.from_message(message), side)
    fields = CameraInfoFields.from_message(message).of_cells(side)
    assert (fields.height, fields.width) == fields.image_size == (cells.rows, cells.columns)
    k = np.reshape(fields.k, (3, 3))
    pixels = cells.rays * k[[0, 1], [0, 1]] + k[:2, 2]
    expected = np.stack(np.meshgrid(np.arange(cells.columns), np.arange(cells.rows)), axis=-1)
    np.testing.assert_allclose(pixels, expected, atol=1e-9)
    np.testing.assert_allclose(k[2], (0, 0, 1))


def test_p_of_cells_is_scaled_like_k_with_the_baseline() -> None:
    fields = CameraInfoFields.from_message(camera_info()).of_cells(4)
    p, k = np.reshape(fields.p, (3, 4)), np.reshape(fields.k, (3, 3))
    np.testing.assert_allclose(p, [[120, 0, 321 / 4 - 0.5, -12], [0, 122.5, 177.5 / 4 - 0.5, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(k, [[125, 0, 322 / 4 - 0.5], [0, 127.5, 178.75 / 4 - 0.5], [0, 0, 1]])
    assert (fields.d, fields.r, fields.distortion_model) == (tuple(LENS), tuple(EYE), "plumb_bob")
    assert (fields.binning_x, fields.binning_y, fields.region) == (0, 0, (0, 0, 0, 0))
    uncalibrated = CameraInfoFields.from_message(camera_info(p=[0.0] * 12)).of_cells(4)
    assert uncalibrated.p == (0.0,) * 12


def test_a_misfit_names_both_sizes() -> None:
    fields = CameraInfoFields.from_message(camera_info(binning_x=2, binning_y=2))
    assert fields.misfit(180, 320) == ""
    assert "expected images of 320x180, the size in the CameraInfo, got 640x360" in fields.misfit(360, 640)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"k": [math.nan, *K[1:]]}, "got K with NaN or infinity; calibrate the camera again"),
        ({"d": [math.inf, *LENS[1:]]}, "got D with NaN"),
        ({"p": [*P[:3], math.nan, *P[4:]]}, "got P with NaN"),
        ({"k": [0.0] * 9}, "got 0 and 0; calibrate the camera, because an uncalibrated one sends zeros"),
        ({"width": 0}, "1 to 16384 px a side, got 0x360"),
        ({"roi": region(x_offset=600, width=41, height=360)}, "got 41x360 px at 600, 0; correct the camera driver"),
        ({"roi": region(width=2**32 - 1, height=360)}, "within the 640x360 px"),
    ],
)
def test_unusable_messages_are_refused_with_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match="expected a") as caught:
        CameraInfoFields.from_message(camera_info(**changes))
    assert sentence in str(caught.value)
