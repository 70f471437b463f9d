"""Tests ranges on the ground: round roads seen through many lenses and mountings, and the sample drive's street."""

from __future__ import annotations

import math

import cv2
import numpy as np
import opencv_rays
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_student import CONTRACT

from ros_kd_perception.free_space.boundary import blocked_classes
from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.ground_scan import Beams, CameraPose, GroundScan
from ros_kd_perception.sample_drive import SampleDrive, default_cameras
from ros_kd_perception.sample_drive.camera import CameraModel, CarPose
from ros_kd_perception.sample_drive.free_ground import pose_in_vehicle, true_ranges

ROAD, PAVEMENT, CAR = 3, 4, 8
BLOCKED = blocked_classes(CONTRACT, ["road"])
LENSES = {
    "pinhole": ("plumb_bob", ()),
    "plumb_bob": ("plumb_bob", (-0.25, 0.06, 0.0006, -0.0004, -0.006)),
    "rational_polynomial": ("rational_polynomial", (0.5, -0.1, 0.0003, 0.0002, 0.01, 0.8, -0.05, 0.02)),
    "equidistant": ("equidistant", (-0.02, 0.004, -0.003, 0.0005)),
}
BEAMS = Beams.from_increment(1.0, range_max_m=40.0, max_blind_m=10.0)


def rays_of_pixels(calibration: Calibration) -> np.ndarray:
    """Return x / z and y / z of every pixel, float64 `[height, width, 2]`, from OpenCV's inverse functions."""
    columns, rows = np.meshgrid(np.arange(calibration.width, dtype=float), np.arange(calibration.height, dtype=float))
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
    matrix = np.array(
        [
            [calibration.focal_x, 0, calibration.center_x],
            [0, calibration.focal_y, calibration.center_y],
            [0.0, 0.0, 1.0],
        ]
    )
    rays = opencv_rays.rays_of_pixels(pixels, matrix, calibration.model, calibration.coefficients)
    return rays.reshape(calibration.height, calibration.width, 2)


def ground_of_pixels(calibration: Calibration, pose: CameraPose) -> np.ndarray:
    """Return where each pixel's ray meets the ground, float64 `[height, width, 2]`. NaN at and above the horizon."""
    rays = rays_of_pixels(calibration)
    optical = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=-1)
    directions = optical @ np.array(pose.optical_from_frame)
    with np.errstate(all="ignore"):
        distance = np.where(directions[..., 2] < -1e-6, -pose.position[2] / directions[..., 2], np.nan)
    return np.asarray(np.array(pose.position)[:2] + distance[..., None] * directions[..., :2])


def disc(calibration: Calibration, pose: CameraPose, radius_m: float) -> np.ndarray:
    """Return the mask of a round road around the frame's origin."""
    with np.errstate(invalid="ignore"):
        inside = np.linalg.norm(ground_of_pixels(calibration, pose), axis=-1) < radius_m
    return np.where(inside, ROAD, PAVEMENT).astype(np.uint8)


def pixel_m(range_m: np.ndarray, pose: CameraPose, focal_px: float) -> np.ndarray:
    """Return an upper bound of one pixel's size on the ground: (d^2 + h^2) / (h f) at distance d from the camera."""
    farthest = range_m + math.hypot(*pose.position[:2])
    return (farthest**2 + pose.position[2] ** 2) / (pose.position[2] * focal_px)


@pytest.mark.parametrize("lens", LENSES)
@settings(max_examples=6, deadline=None)
@given(
    x_m=st.floats(-1.0, 3.0), y_m=st.floats(-1.0, 1.0), height_m=st.floats(0.8, 3.0), roll_deg=st.floats(-5, 5),
    pitch_deg=st.floats(-3, 20), yaw_deg=st.floats(-180, 180), radius_m=st.floats(9.0, 30.0),
)  # fmt: skip
def test_a_round_road_ends_at_its_radius_in_every_direction(lens: str, radius_m: float, **mounting: float) -> None:
    model, coefficients = LENSES[lens]
    calibration = Calibration(240, 144, 180.0, 183.0, 121.8, 70.2, model, coefficients)
    pose = CameraPose.from_mounting(**mounting)
    scan = GroundScan(calibration, pose, BEAMS)
    ranges = scan.ranges(disc(calibration, pose, radius_m), BLOCKED)
    told = np.isfinite(ranges)
    error_m = np.abs(ranges[told] - np.maximum(radius_m, scan.nearest_m[told]))
    # Allow half a pixel for the sample and half for the mask. The line may cross the rows at an angle.
    assert (error_m <= 1.6 * pixel_m(np.full(told.sum(), radius_m), pose, 180.0) + 1e-3).all()
    # A direction is known if the image shows it from near enough to beyond the edge of the road.
    assert told.sum() >= np.sum(scan.reaches)


def test_the_default_front_camera_covers_its_whole_field_of_view() -> None:
    calibration = Calibration(1280, 720, 880.0, 880.0, 639.5, 359.5)
    scan = GroundScan(calibration, CameraPose.from_mounting(0.0, 0.0, 1.45, 0.0, 1.7, 0.0), BEAMS)
    ranges = scan.ranges(np.full((720, 1280), ROAD, np.uint8), BLOCKED)
    half = math.degrees(math.atan(640 / 880))
    free = BEAMS.angles_rad[np.isinf(ranges)]
    assert np.degrees(free.min()) == pytest.approx(-half, abs=1.0)
    assert np.degrees(free.max()) == pytest.approx(half, abs=1.0)
    assert len(ranges) == BEAMS.count == 360
    # h / tan(angle of the lowest row below the horizon)
    nearest = 1.45 / math.tan(math.radians(1.7) + math.atan(360 / 880))
    assert scan.nearest_m.min() == pytest.approx(nearest, rel=0.01)


def test_unknown_free_and_blocked_from_the_start() -> None:
    calibration = Calibration(1280, 720, 880.0, 880.0, 639.5, 359.5)
    pose = CameraPose.from_mounting(1.6, 0.0, 1.45, 0.0, 1.7, 0.0)
    scan = GroundScan(calibration, pose, BEAMS)
    ahead = BEAMS.count // 2
    assert BEAMS.angles_rad[ahead] == pytest.approx(0.0)

    nothing_free = scan.ranges(np.full((720, 1280), PAVEMENT, np.uint8), BLOCKED)
    lowest_row = math.radians(1.7) + math.atan(360 / 880)
    assert nothing_free[ahead] == pytest.approx(1.6 + 1.45 / math.tan(lowest_row), rel=0.01)
    assert np.isnan(nothing_free[0])  # behind the vehicle
    assert np.isinf(scan.ranges(np.full((720, 1280), ROAD, np.uint8), BLOCKED)[ahead])
    # The image ends on the ground before the greatest range. The beam is free up to there, which a LaserScan cannot
    # express.
    down = GroundScan(calibration, CameraPose.from_mounting(0.0, 0.0, 1.45, 0.0, 40.0, 0.0), BEAMS)
    assert not down.reaches.any()
    assert np.isnan(down.ranges(np.full((720, 1280), ROAD, np.uint8), BLOCKED)).all()
    into_the_sky = GroundScan(calibration, CameraPose.from_mounting(0.0, 0.0, 1.45, 0.0, -60.0, 0.0), BEAMS)
    assert np.isnan(into_the_sky.ranges(np.full((720, 1280), ROAD, np.uint8), BLOCKED)).all()


def test_rows_that_show_the_vehicle_are_ignored() -> None:
    calibration = Calibration(1280, 720, 880.0, 880.0, 639.5, 359.5)
    pose = CameraPose.from_mounting(0.0, 0.0, 1.45, 0.0, 1.7, 0.0)
    mask = disc(calibration, pose, 20.0)
    mask[640:] = CAR
    ahead = BEAMS.count // 2
    assert GroundScan(calibration, pose, BEAMS).ranges(mask, BLOCKED)[ahead] < 5
    ignoring = GroundScan(calibration, pose, BEAMS, ignore_bottom_px=80)
    assert ignoring.ranges(mask, BLOCKED)[ahead] == pytest.approx(20.0, abs=0.5)
    assert ignoring.nearest_m.min() == pytest.approx(
        1.45 / math.tan(math.radians(1.7) + math.atan(280 / 880)), rel=0.01
    )


@pytest.mark.parametrize(("gap_px", "bridged"), [(0, False), (5, False), (6, True), (20, True)])
def test_a_gap_is_bridged_up_to_the_limit(gap_px: int, bridged: bool) -> None:
    calibration = Calibration(1280, 720, 880.0, 880.0, 639.5, 359.5)
    pose = CameraPose.from_mounting(0.0, 0.0, 1.45, 0.0, 1.7, 0.0)
    mask = disc(calibration, pose, 25.0)
    mask[500:506] = PAVEMENT
    line = 1.45 / math.tan(math.radians(1.7) + math.atan((505.5 - 359.5) / 880))
    ahead = GroundScan(calibration, pose, BEAMS, max_gap_px=gap_px).ranges(mask, BLOCKED)[BEAMS.count // 2]
    assert ahead == pytest.approx(25.0 if bridged else line, rel=0.02)


def test_class_maps_of_another_size_are_refused() -> None:
    scan = GroundScan(
        Calibration(64, 48, 50.0, 50.0, 32.0, 24.0), CameraPose.from_mounting(0.0, 0.0, 1.0, 0.0, 10.0, 0.0), BEAMS
    )
    with pytest.raises(ValueError, match=r"expected class maps of 64x48.*got 32x24"):
        scan.ranges(np.zeros((24, 32), np.uint8), BLOCKED)


@given(
    st.floats(-180, 180), st.floats(-80, 80), st.floats(-180, 180), st.floats(-2, 2), st.floats(-2, 2),
    st.floats(0.2, 3),
)  # fmt: skip
def test_mounting_angles_match_the_sample_drive_and_tf(
    roll: float, pitch: float, yaw: float, x: float, y: float, height: float
) -> None:
    model = CameraModel(
        "c", forward_m=x, left_m=y, height_m=height, yaw_rad=math.radians(yaw), pitch_rad=math.radians(pitch),
        roll_rad=math.radians(roll),
    )  # fmt: skip
    expected = model.pose(CarPose(0.0, 0.0, 0.0))
    pose = CameraPose.from_mounting(x, y, height, roll, pitch, yaw)
    np.testing.assert_allclose(pose.optical_from_frame, expected.rotation, atol=1e-9)
    np.testing.assert_allclose(pose.position, expected.position, atol=1e-9)
    # Build the quaternion of the optical frame, as TF has it, from axis and angle.
    turn = cv2.Rodrigues(expected.rotation.T)[0][:, 0]
    angle = float(np.linalg.norm(turn))
    axis = turn / max(angle, 1e-12) * math.sin(angle / 2)
    from_tf = CameraPose.from_transform((x, y, height), (*(axis * 3).tolist(), 3 * math.cos(angle / 2)))
    np.testing.assert_allclose(from_tf.optical_from_frame, expected.rotation, atol=1e-5)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant"]), numbers=st.lists(FINITE, min_size=8,
    max_size=8), focal_px=st.floats(1e-3, 1e6), centre=st.floats(-1e5, 1e5), height=st.sampled_from([1, 40, 16384]),
)  # fmt: skip
def test_any_camera_info_gives_bounded_ranges_and_memory(
    model: str, numbers: list[float], focal_px: float, centre: float, height: int
) -> None:
    """Wrong values give no beams or ranges within bounds. They cause no exception and no unlimited memory."""
    count = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}[model]
    calibration = Calibration(64, height, focal_px, focal_px, centre, centre, model, tuple(numbers[:count]))
    scan = GroundScan(calibration, CameraPose.from_mounting(0.0, 0.0, 1.0, 0.0, 20.0, 0.0), BEAMS, max_gap_px=3)
    assert scan._pixels.size <= 1 << 21
    ranges = scan.ranges(np.full((height, 64), PAVEMENT, np.uint8), BLOCKED)
    told = ranges[np.isfinite(ranges)]
    assert ((told >= 0) & (told <= BEAMS.range_max_m * 1.001)).all()


def test_impossible_poses_are_refused() -> None:
    with pytest.raises(ValueError, match="above the ground"):
        CameraPose.from_mounting(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="finite"):
        CameraPose.from_mounting(math.nan, 0.0, 1.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="rotation"):
        CameraPose.from_transform((0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def drive() -> SampleDrive:
    return SampleDrive(1, "day", 8.0, default_cameras(1280, 720))


@pytest.mark.parametrize(("camera_name", "time_s"), [("front", 2.0), ("left", 7.0)])
def test_the_kerbs_of_the_sample_drive_are_found(drive: SampleDrive, camera_name: str, time_s: float) -> None:
    """The exact mask gives ranges exact to a pixel. If the car leans, its lean explains the error."""
    camera = next(c for c in drive.cameras if c.name == camera_name)
    car = drive.world.car_pose(time_s)
    leaning = pose_in_vehicle(drive.camera_pose(camera_name, time_s), car)
    exact = CameraPose(tuple(leaning.position.tolist()), tuple(tuple(row) for row in leaning.rotation.tolist()))
    attitude_deg = np.degrees([camera.roll_rad, camera.pitch_rad, camera.yaw_rad]).tolist()
    mounted = CameraPose.from_mounting(camera.forward_m, camera.left_m, camera.height_m, *attitude_deg)
    matrix = camera.intrinsic_matrix
    calibration = Calibration(1280, 720, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    beams = Beams.from_increment(0.5, 30.0, 8.0)
    mask = drive.render(camera_name, time_s).class_map
    truth = true_ranges(drive.world, time_s, beams.angles_rad, beams.range_max_m).road_m
    # Check only beams that end at a kerb. Elsewhere an object is in the way and also hides the ground behind it.
    for pose, lean_rad in ((exact, 0.0), (mounted, 0.006)):
        scan = GroundScan(calibration, pose, beams)
        ranges = scan.ranges(mask, BLOCKED)
        to_others = scan.ranges(mask, blocked_classes(CONTRACT, ["road", "pavement"]))
        at_kerb = np.isfinite(ranges) & np.isfinite(truth) & ~(to_others <= ranges)
        at_kerb &= (truth > scan.nearest_m) & (ranges > scan.nearest_m)
        assert at_kerb.sum() >= 30
        error_m = np.abs(ranges[at_kerb] - truth[at_kerb])
        pixel = pixel_m(ranges[at_kerb], exact, camera.focal_px)
        assert (error_m <= 2.0 * pixel + lean_rad * camera.focal_px * pixel + 0.03).all()
        if lean_rad == 0:
            assert np.median(error_m) < 0.1
