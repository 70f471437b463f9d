"""Tests positions and covariances: through lenses and mountings, against random errors, and on the sample drive."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.ground_positions.ground_camera import ErrorModel, GroundCamera, LeftOut, ellipses
from ros_kd_perception.model.letterbox import InputGeometry, letterbox_geometry
from ros_kd_perception.structures import Detections, RegionOfInterest

LENSES = {
    "pinhole": ("plumb_bob", ()),
    "plumb_bob": ("plumb_bob", (-0.25, 0.06, 0.0006, -0.0004, -0.006)),
    "rational_polynomial": ("rational_polynomial", (0.5, -0.1, 0.0003, 0.0002, 0.01, 0.8, -0.05, 0.02)),
    "equidistant": ("equidistant", (-0.02, 0.004, -0.003, 0.0005)),
}
MOUNTINGS = {
    "x_m": st.floats(-1.0, 3.0), "y_m": st.floats(-1.0, 1.0), "height_m": st.floats(0.8, 3.0),
    "roll_deg": st.floats(-5, 5), "pitch_deg": st.floats(0, 20), "yaw_deg": st.floats(-180, 180),
}  # fmt: skip
WIDTH, HEIGHT = 1280, 720
EXACT = ErrorModel(0.0, 0.0, 0.0, 0.0)
GEOMETRY = letterbox_geometry(HEIGHT, WIDTH, 384, 640)
FRONT = CameraPose.from_mounting(1.6, 0.0, 1.45, 0.0, 1.7, 0.0)
CAMERA = Calibration(WIDTH, HEIGHT, 880.0, 880.0, 639.5, 359.5)


def calibration(lens: str) -> Calibration:
    model, coefficients = LENSES[lens]
    return Calibration(WIDTH, HEIGHT, 880.0, 890.0, 650.3, 351.7, model, coefficients)


def boxes(*rows: tuple[float, float, float, float]) -> Detections:
    count = len(rows)
    corners = np.array(rows, np.float32).reshape(count, 4)
    return Detections(corners, np.linspace(0.9, 0.5, count, dtype=np.float32), np.arange(count, dtype=np.int32))


def pixel_of(made: Calibration, pose: CameraPose, point: np.ndarray) -> np.ndarray:
    x, y, z = np.array(pose.optical_from_frame) @ (point - np.array(pose.position))
    assume(z > 0.5)
    return np.asarray(made.project(np.array([x / z, y / z])))


def point_of(made: Calibration, pose: CameraPose, box: np.ndarray) -> np.ndarray:
    """Return the position of one box `[4]`, float64 `[2]`."""
    # Float32 corners would hide small changes.
    found = Detections(box[None], np.ones(1, np.float32), np.zeros(1, np.int32))
    [point] = GroundCamera(made, pose, EXACT, 1e6).positions(found, GEOMETRY).points_m
    return np.asarray(point)


@pytest.mark.parametrize("lens", LENSES)
@settings(max_examples=25, deadline=None)
@given(bearing_deg=st.floats(-25, 25), distance_m=st.floats(4, 45), height_m_of_it=st.floats(0.5, 2.0), **MOUNTINGS)
def test_what_stands_on_the_ground_is_found_where_it_stands(
    lens: str, bearing_deg: float, distance_m: float, height_m_of_it: float, **mounting: float
) -> None:
    made, pose = calibration(lens), CameraPose.from_mounting(**mounting)
    bearing = math.radians(mounting["yaw_deg"] + bearing_deg)
    foot = np.array([*pose.position[:2], 0.0]) + distance_m * np.array([math.cos(bearing), math.sin(bearing), 0.0])
    (u, v), (top_u, top_v) = (
        pixel_of(made, pose, foot),
        pixel_of(made, pose, foot + np.array([0.0, 0.0, height_m_of_it])),
    )
    assume(10 < u < WIDTH - 10 and 0 < v < HEIGHT - 2 and top_v > 0 and v - top_v > 4)

    found = GroundCamera(made, pose, EXACT, 1e3).positions(boxes((u - 4.5, top_v + 0.5, u + 5.5, v + 0.5)), GEOMETRY)

    # Float32 boxes are good to 0.0001 px.
    coarse_m = 1e-3 * (distance_m**2 + pose.position[2] ** 2) / pose.position[2] / 8
    assert np.hypot(*(found.points_m[0] - foot[:2])) < coarse_m
    turned = (found.bearings_rad[0] - bearing + math.pi) % (2 * math.pi) - math.pi
    assert abs(turned) < 1e-3
    upright = abs(top_u - u) < 3  # the height is that of the line through the middle of the box
    assert not upright or found.sizes_m[0, 1] == pytest.approx(height_m_of_it, abs=0.01 + 0.01 * height_m_of_it)
    assert found.left_out == LeftOut()


def test_width_and_height_are_those_of_a_board_that_faces_the_camera() -> None:
    pose = CameraPose.from_mounting(0.0, 0.0, 1.5, 0.0, 0.0, 0.0)
    # At 12 m, 880 px are 12 m: a board of 1.8 m by 1.2 m.
    foot_v = 359.5 + 880 * 1.5 / 12
    box = (639.5 - 66, foot_v - 88, 639.5 + 66, foot_v)
    found = GroundCamera(CAMERA, pose, EXACT).positions(boxes(tuple(value + 0.5 for value in box)), GEOMETRY)
    np.testing.assert_allclose(found.points_m, [[12.0, 0.0]], atol=1e-4)
    np.testing.assert_allclose(found.sizes_m, [[1.8, 1.2]], atol=1e-4)


def turned(pose: CameraPose, pitch_rad: float = 0.0, yaw_rad: float = 0.0) -> CameraPose:
    """Return the pose after the camera has turned about its own axis to the left, nose down, and then to the left."""
    cos, sin = math.cos(pitch_rad), math.sin(pitch_rad)
    nose_down = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    to_right = np.array(
        [[math.cos(yaw_rad), math.sin(yaw_rad), 0], [-math.sin(yaw_rad), math.cos(yaw_rad), 0], [0, 0, 1]]
    )
    rotation = nose_down @ np.array(pose.optical_from_frame) @ to_right
    return CameraPose(pose.position, tuple(tuple(row) for row in rotation.tolist()))


@pytest.mark.parametrize("lens", LENSES)
@settings(max_examples=25, deadline=None)
@given(
    middle=st.floats(100, 1180), bottom=st.floats(430, 680), width=st.floats(10, 150), height=st.floats(10, 150),
    edge_px=st.floats(0, 5), share=st.floats(0, 0.2), pitch_deg_error=st.floats(0, 2), yaw_deg_error=st.floats(0, 2),
    **MOUNTINGS,
)  # fmt: skip
def test_covariances_are_those_of_numerical_derivatives(
    lens: str, middle: float, bottom: float, width: float, height: float, edge_px: float, share: float,
    pitch_deg_error: float, yaw_deg_error: float, **mounting: float,
) -> None:  # fmt: skip
    made, pose = calibration(lens), CameraPose.from_mounting(**mounting)
    errors = ErrorModel(edge_px, share, pitch_deg_error, yaw_deg_error)
    box = np.array([middle - width / 2, bottom - height, middle + width / 2, bottom])
    found = Detections(box[None].astype(np.float64), np.ones(1, np.float32), np.zeros(1, np.int32))
    positions = GroundCamera(made, pose, errors, 1e3).positions(found, GEOMETRY)
    assume(len(positions))

    step_px, step_rad = 1e-3, 1e-6
    shifts = [np.array(shift) * step_px for shift in ((1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))]
    of_edges = [(point_of(made, pose, box + s) - point_of(made, pose, box - s)) / (2 * step_px) for s in shifts]
    more, less = (point_of(made, turned(pose, sign * step_rad), box) for sign in (1, -1))
    left, right = (point_of(made, turned(pose, yaw_rad=sign * step_rad), box) for sign in (1, -1))
    jacobian = np.stack([*of_edges, (more - less) / (2 * step_rad), (left - right) / (2 * step_rad)], axis=-1)
    error_x, error_y = math.hypot(2 * edge_px, share * width), math.hypot(2 * edge_px, share * height)
    turns = math.radians(pitch_deg_error), math.radians(yaw_deg_error)
    variances = np.diag([error_x, error_x, error_y, *turns]) ** 2
    expected = jacobian @ variances @ jacobian.T
    np.testing.assert_allclose(positions.covariances_m2[0], expected, rtol=1e-3, atol=1e-4 * np.trace(expected))


@pytest.mark.parametrize("distance_m", [5.0, 10.0, 20.0])
def test_random_errors_spread_positions_as_the_covariance_says(distance_m: float) -> None:
    random, count = np.random.default_rng(3), 20_000
    pose = CameraPose.from_mounting(0.0, 0.0, 1.5, 0.0, 2.0, 30.0)
    foot_v = 359.5 + 880 * math.tan(math.atan(1.5 / distance_m) - math.radians(2.0))
    box = np.array([700.0, foot_v - 90, 760.0, foot_v])
    errors = ErrorModel(0.5, 0.01, 0.15, 0.2)
    error_x, error_y = math.hypot(1.0, 0.01 * 60), math.hypot(1.0, 0.01 * 90)
    noisy = box + random.normal(0, 1, (count, 4)) * (error_x, 0, error_x, error_y)
    camera = GroundCamera(CAMERA, pose, errors)
    stated = camera.positions(boxes(tuple(box)), GEOMETRY).covariances_m2[0]
    points = []
    pitches, yaws = random.normal(0, math.radians(0.15), 200), random.normal(0, math.radians(0.2), 200)
    for pitch_rad, yaw_rad, rows in zip(pitches, yaws, np.split(noisy, 200), strict=True):
        leaning = GroundCamera(CAMERA, turned(pose, pitch_rad, yaw_rad), EXACT, 1e3)
        points.append(leaning.positions(boxes(*map(tuple, rows)), GEOMETRY).points_m)
    spread = np.cov(np.concatenate(points).T)
    # The random pitches and yaws are 200, so their variance is known to 10 %.
    np.testing.assert_allclose(spread, stated, rtol=0.25, atol=0.05 * np.trace(stated))


def test_boxes_without_a_place_on_the_ground_are_left_out_and_counted() -> None:
    standing = (600.0, 380.0, 640.0, 460.0)
    cut, near_the_edge = (100.0, 300.0, 300.0, 720.0), (100.0, 300.0, 300.0, 705.0)  # 5 % of 405 px are 20 px
    above, on_it, far = (100.0, 100.0, 120.0, 200.0), (100.0, 300.0, 110.0, 333.8), (300.0, 340.0, 310.0, 352.0)
    found = boxes(cut, standing, near_the_edge, above, on_it, far)

    positions = GroundCamera(CAMERA, FRONT).positions(found, GEOMETRY)

    assert positions.found.labels.tolist() == [1]
    assert positions.left_out == LeftOut(cut=2, above_horizon=2, too_far=1)
    farther = GroundCamera(CAMERA, FRONT, range_max_m=500.0).positions(found, GEOMETRY)
    assert farther.found.labels.tolist() == [1, 5]  # in the order of the boxes
    assert len(GroundCamera(CAMERA, FRONT).positions(boxes(), GEOMETRY)) == 0


def test_boxes_that_the_region_or_the_bonnet_may_cut_are_left_out() -> None:
    found = boxes((600.0, 380.0, 640.0, 460.0), (600.0, 500.0, 640.0, 560.0))
    region = RegionOfInterest(0, 100, WIDTH, 461)
    cropped = InputGeometry(HEIGHT, WIDTH, 230, 640, region)
    assert GroundCamera(CAMERA, FRONT).positions(found, cropped).found.labels.tolist() == [0]
    with_bonnet = GroundCamera(CAMERA, FRONT, ignore_bottom_px=161)
    assert with_bonnet.positions(found, GEOMETRY).found.labels.tolist() == [0]
    assert GroundCamera(CAMERA, FRONT).positions(found, GEOMETRY).found.labels.tolist() == [0, 1]


def test_a_pixel_of_the_network_counts_with_its_size_in_the_image() -> None:
    found, errors = boxes((600.0, 380.0, 640.0, 460.0)), ErrorModel(1.0, 0.0, 0.0, 0.0)
    half = GroundCamera(CAMERA, FRONT, errors).positions(found, letterbox_geometry(HEIGHT, WIDTH, 384, 640))
    third = GroundCamera(CAMERA, FRONT, errors).positions(found, letterbox_geometry(HEIGHT, WIDTH, 240, 640 * 2 // 3))
    np.testing.assert_allclose(third.covariances_m2, 2.25 * half.covariances_m2, rtol=0.01)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected images of 1280x720, the size in the CameraInfo, got 640x360"):
        GroundCamera(CAMERA, FRONT).positions(boxes(), letterbox_geometry(360, 640, 384, 640))


@given(st.floats(0.01, 50), st.floats(0.01, 50), st.floats(-math.pi / 2, math.pi / 2))
def test_ellipses_are_the_principal_axes(a: float, b: float, angle: float) -> None:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    covariance = turn @ np.diag([a * a, b * b]) @ turn.T
    [axes], [direction] = ellipses(covariance[None], 2.0)
    np.testing.assert_allclose(axes, [2 * max(a, b), 2 * min(a, b)], rtol=1e-4, atol=1e-3 * max(a, b))
    along = np.array([math.cos(direction), math.sin(direction)])
    assert along @ covariance @ along == pytest.approx(max(a, b) ** 2, rel=1e-6)
