"""Tests `Calibration`: lenses against OpenCV; sizes, binning and refusals with messages written by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opencv_rays import rays_of_pixels
from tiny_student import CONTRACT

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.free_space.ground_scan import Beams, CameraPose
from ros_kd_perception.free_space.parameters import FreeSpaceParameters, ScanParameters

K = np.array([[500.0, 0.0, 321.5], [0.0, 510.0, 178.25], [0.0, 0.0, 1.0]])
PLUMB_BOB = (-0.31, 0.11, 0.0008, -0.0004, -0.02)
RATIONAL = (0.5, -0.1, 0.0003, 0.0002, 0.01, 0.8, -0.05, 0.02)
EQUIDISTANT = (-0.02, 0.004, -0.003, 0.0005)


def region(**changes: int) -> SimpleNamespace:
    return SimpleNamespace(**({"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False} | changes))


def camera_info(**changes: Any) -> SimpleNamespace:
    """Return an object with the fields that the CameraInfo of rclpy and of rosbags have."""
    fields = {
        "width": 640, "height": 360, "distortion_model": "plumb_bob", "d": list(PLUMB_BOB), "k": K.reshape(-1),
        "p": np.hstack([K + 1.0, np.zeros((3, 1))]).reshape(-1), "binning_x": 0, "binning_y": 0, "roi": region(),
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def calibration(model: str, coefficients: tuple[float, ...]) -> Calibration:
    return Calibration.from_message(camera_info(distortion_model=model, d=list(coefficients)))


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", ()),
        ("plumb_bob", PLUMB_BOB[:4]),
        ("plumb_bob", PLUMB_BOB),
        ("rational_polynomial", RATIONAL),
        ("equidistant", EQUIDISTANT),
        ("equidistant", (0.0,) * 4),
    ],
)
def test_rays_are_projected_like_opencv_does(model: str, coefficients: tuple[float, ...]) -> None:
    rays = np.random.default_rng(0).uniform(-0.6, 0.6, (200, 2))
    points = np.hstack([rays, np.ones((200, 1))])[:, None]
    none = np.zeros(3)
    if model == "equidistant":
        expected, _ = cv2.fisheye.projectPoints(points, none, none, K, np.array(coefficients))
    else:
        expected, _ = cv2.projectPoints(points, none, none, K, np.array(coefficients) if coefficients else None)
    np.testing.assert_allclose(calibration(model, coefficients).project(rays), expected[:, 0], atol=1e-6)


def test_an_ideal_fisheye_is_not_taken_for_a_pinhole_and_is_pointed_out() -> None:
    ideal = calibration("equidistant", (0.0,) * 4)
    at_60_deg = np.array([[np.tan(np.pi / 3), 0.0]])
    np.testing.assert_allclose(ideal.project(at_60_deg)[0, 0], K[0, 2] + K[0, 0] * np.pi / 3)
    assert "ideal fisheye" in ideal.doubt
    assert calibration("equidistant", EQUIDISTANT).doubt == calibration("plumb_bob", (0.0,) * 5).doubt == ""
    rectified = camera_info(distortion_model="equidistant", d=[0.0] * 4)
    assert Calibration.from_message(rectified, rectified=True).doubt == ""


def test_rays_beyond_the_fold_of_a_lens_are_nan() -> None:
    """A strong barrel distortion: r (1 - 0.3 r^2) grows up to r = sqrt(1 / 0.9) = 1.054 and then falls."""
    barrel = calibration("plumb_bob", (-0.3, 0.0, 0.0, 0.0))
    assert barrel.ray_limit == pytest.approx(np.sqrt(1 / 0.9), abs=0.002)
    assert np.isfinite(barrel.project(np.array([[1.05, 0.0]]))).all()
    assert np.isnan(barrel.project(np.array([[1.3, 0.0]]))).all()


@given(
    st.sampled_from([("plumb_bob", ()), ("plumb_bob", PLUMB_BOB), ("rational_polynomial", RATIONAL),
                     ("equidistant", EQUIDISTANT)]),
    st.floats(-0.5, 639.5), st.floats(-0.5, 299.5),
)  # fmt: skip
def test_the_bounds_contain_every_ray_of_the_image(
    lens: tuple[str, tuple[float, ...]], column: float, row: float
) -> None:
    model, coefficients = lens
    ray = rays_of_pixels(np.array([[[column, row]]]), K, model, coefficients)[0, 0]
    low_x, high_x, low_y, high_y = calibration(model, coefficients).ray_bounds(300)
    assert low_x - 1e-6 <= ray[0] <= high_x + 1e-6
    assert low_y - 1e-6 <= ray[1] <= high_y + 1e-6


def test_binning_and_region_of_interest() -> None:
    """A point stays at its place: pixel p of the full image is (p - offset + 0.5) / 2 - 0.5 of the binned region."""
    part = region(x_offset=40, y_offset=20, width=500, height=300)
    small = Calibration.from_message(camera_info(d=[], roi=part, binning_x=2, binning_y=2))
    assert (small.width, small.height) == (250, 150)
    ray = np.array([[0.1, -0.2]])
    full = Calibration.from_message(camera_info(d=[])).project(ray)
    np.testing.assert_allclose(small.project(ray), (full - (40, 20) + 0.5) / 2 - 0.5)


def test_a_region_may_reach_to_the_edge_of_the_sensor() -> None:
    corner = Calibration.from_message(camera_info(roi=region(x_offset=600, y_offset=300, width=40, height=60)))
    assert (corner.width, corner.height) == (40, 60)


def test_rectified_images_are_described_by_p() -> None:
    rectified = Calibration.from_message(camera_info(), rectified=True)
    assert rectified.coefficients == ()
    assert (rectified.focal_x, rectified.center_y) == (501.0, 179.25)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"k": np.zeros(9)}, "calibrate the camera"),
        ({"k": np.full(9, np.nan)}, "focal lengths"),
        ({"k": np.eye(3).reshape(-1)}, "of its 640x360 image, got 1 and 1, a view of more than 170 degrees"),
        ({"k": (K / [[640], [360], [1]]).reshape(-1)}, "a view of more than 170 degrees"),  # normalised
        ({"k": (K * [[1], [0.02], [1]]).reshape(-1)}, "a view of more than 170 degrees"),
        ({"k": (K * [[1, 1, 0], [1, 1, 0], [1, 1, 1]]).reshape(-1)}, "got 0; calibrate the camera"),
        ({"k": (2 * K).reshape(-1)}, "at x of 0 to 640 px, got 643"),  # calibrated at twice the size
        ({"distortion_model": "thin_prism", "d": [0.0] * 12}, "got 'thin_prism'"),
        ({"d": [0.1, 0.2, 0.3]}, "expected 0 or 4 or 5 coefficients"),
        ({"d": [0.1] * 100_000}, "expected 0 or 4 or 5 coefficients"),
        ({"d": [np.inf, 0.0, 0.0, 0.0]}, "finite"),
        ({"width": 0}, "0x360"),
        ({"height": 2**32 - 1}, "16384 px a side"),
        ({"roi": region(width=2**32 - 1, height=2**32 - 1)}, "within the 640x360 px"),
        ({"roi": region(width=2**31 - 1, height=360)}, "within the 640x360 px"),
        ({"roi": region(x_offset=1, width=640, height=360)}, "got 640x360 px at 1, 0"),
        ({"roi": region(y_offset=300, width=640, height=61)}, "got 640x61 px at 0, 300"),
        ({"roi": region(x_offset=2**32 - 1)}, "got 640x360 px at 4294967295, 0"),
    ],
)
def test_an_invalid_camera_info_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Calibration.from_message(camera_info(**changes))


def test_only_a_calibration_at_half_the_size_is_doubted() -> None:
    assert "calibrated at another size" in Calibration.from_message(camera_info(k=(K / 2).reshape(-1))).doubt
    assert Calibration.from_message(camera_info()).doubt == ""
    cut_at_the_top = K - [[0, 0, 0], [0, 0, 150], [0, 0, 0]]
    assert Calibration.from_message(camera_info(k=cut_at_the_top.reshape(-1))).doubt == ""
    right_half = camera_info(roi=region(x_offset=320, width=320, height=360))
    assert Calibration.from_message(right_half).doubt == ""


@pytest.mark.parametrize("broken", [{"roi": region(width=2**32 - 1)}, {"k": [1.0]}], ids=["refused", "unforeseen"])
def test_an_unusable_calibration_ends_the_scan(broken: dict[str, Any]) -> None:
    pose = CameraPose.from_mounting(0.0, 0.0, 1.5, 0.0, 5.0, 0.0)
    scan = ScanParameters("base_link", Beams.from_increment(1.0, 50.0, 8.0), rectified=False, pose=pose)
    finder = FreeSpaceFinder(FreeSpaceParameters(scans={"front": scan}), CONTRACT)
    finder.calibrate("front", camera_info())
    assert finder.scan("front") is not None
    with pytest.raises(ValueError, match=r"^expected "):
        finder.calibrate("front", camera_info(**broken))
    assert finder.scan("front") is None
    finder.calibrate("front", camera_info())
    assert finder.scan("front") is not None
