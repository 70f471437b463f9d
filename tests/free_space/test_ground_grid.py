"""Tests points on the ground: rays of many lenses, the cut at the free space, the sample drive's exact geometry."""

from __future__ import annotations

import math

import numpy as np
import opencv_rays
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_student import CONTRACT

from ros_kd_perception.free_space.boundary import blocked_classes, free_space_boundary
from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.cell_rays import CellRays
from ros_kd_perception.free_space.ground_grid import GroundGrid
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.inverse_lens import InverseLens
from ros_kd_perception.sample_drive import SampleDrive, default_cameras
from ros_kd_perception.sample_drive.free_ground import pose_in_vehicle

ROAD, PAVEMENT, CAR, UNLABELED = 3, 4, 8, 255
BLOCKED = blocked_classes(CONTRACT, ["road"])
LENSES = {
    "pinhole": ("plumb_bob", ()),
    "plumb_bob": ("plumb_bob", (-0.25, 0.06, 0.0006, -0.0004, -0.006)),
    "rational_polynomial": ("rational_polynomial", (0.5, -0.1, 0.0003, 0.0002, 0.01, 0.8, -0.05, 0.02)),
    "equidistant": ("equidistant", (-0.02, 0.004, -0.003, 0.0005)),
}
FRONT = Calibration(1280, 720, 880.0, 880.0, 639.5, 359.5)
LEVEL = CameraPose.from_mounting(1.6, 0.0, 1.45, 0.0, 1.7, 0.0)


def grid_of(calibration: Calibration = FRONT, pose: CameraPose = LEVEL, range_max_m: float = 50.0, side: int = 4,
            ignore_bottom_px: int = 0) -> GroundGrid:  # fmt: skip
    return GroundGrid(CellRays(calibration, side), pose, range_max_m, ignore_bottom_px)


def boundary_of(class_map: np.ndarray, ignore_bottom_px: int = 0) -> np.ndarray:
    return free_space_boundary(class_map, BLOCKED, 0, ignore_bottom_px)


@pytest.mark.parametrize("lens", LENSES)
def test_rays_are_those_of_opencv(lens: str) -> None:
    model, coefficients = LENSES[lens]
    calibration = Calibration(640, 360, 500.0, 510.0, 321.5, 178.25, model, coefficients)
    pixels = np.stack(np.meshgrid(np.arange(0.0, 640, 7), np.arange(0.0, 360, 5)), axis=-1)
    matrix = np.array([[500.0, 0, 321.5], [0, 510.0, 178.25], [0, 0, 1]])
    expected = opencv_rays.rays_of_pixels(pixels.reshape(-1, 1, 2), matrix, model, coefficients)
    found = InverseLens(calibration).rays(pixels.reshape(-1, 2))[0].reshape(pixels.shape)
    np.testing.assert_allclose(found, expected.reshape(pixels.shape), atol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant"]),
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=8, max_size=8),
    focal_px=st.floats(1e-3, 1e6), centre=st.floats(-1e5, 1e5),
)  # fmt: skip
def test_any_lens_gives_rays_that_fall_on_their_pixels_or_none(
    model: str, numbers: list[float], focal_px: float, centre: float
) -> None:
    count = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}[model]
    calibration = Calibration(64, 40, focal_px, focal_px, centre, centre, model, tuple(numbers[:count]))
    grid = grid_of(calibration, range_max_m=40.0)
    found = np.isfinite(grid.points).all(axis=-1)
    assert grid.count == found.sum()
    if found.any():
        rays = grid.cells.rays[found]
        middles = np.stack(np.meshgrid(np.arange(16) * 4 + 1.5, np.arange(10) * 4 + 1.5), axis=-1)[found]
        assert np.abs(calibration.project(rays) - middles).max() <= 0.06


@pytest.mark.parametrize("lens", LENSES)
@settings(max_examples=10, deadline=None)
@given(
    x_m=st.floats(-1.0, 3.0), y_m=st.floats(-1.0, 1.0), height_m=st.floats(0.3, 3.0), roll_deg=st.floats(-5, 5),
    pitch_deg=st.floats(-3, 40), yaw_deg=st.floats(-180, 180),
)  # fmt: skip
def test_each_point_lies_on_the_ground_and_in_its_cell(lens: str, **mounting: float) -> None:
    model, coefficients = LENSES[lens]
    calibration = Calibration(240, 144, 180.0, 183.0, 121.8, 70.2, model, coefficients)
    pose = CameraPose.from_mounting(**mounting)
    grid = grid_of(calibration, pose, 30.0, side=3)
    found = np.isfinite(grid.points).all(axis=-1)
    points = grid.points[found].astype(np.float64)
    in_frame = points @ np.array(pose.optical_from_frame) + pose.position
    assert np.abs(in_frame[:, 2]).max(initial=0.0) < 1e-4
    assert np.hypot(*in_frame[:, :2].T).max(initial=0.0) <= 30.0 + 1e-4
    pixels = calibration.project(points[:, :2] / points[:, 2:])
    middles = np.stack(np.meshgrid(np.arange(80) * 3 + 1.0, np.arange(48) * 3 + 1.0), axis=-1)
    assert np.abs(pixels - middles[found]).max(initial=0.0) < 0.05


def test_the_grid_covers_the_image() -> None:
    grid = grid_of()
    assert grid.points.shape == (180, 320, 3)
    assert grid.points.dtype == np.float32
    assert (list(grid.rows_px)[:2], len(grid.rows_px), len(grid.columns_px)) == ([2, 6], 180, 320)
    lowest = 1.45 / math.tan(math.radians(1.7) + math.atan((717.5 - 359.5) / 880))
    assert np.nanmin(grid.points[-1, :, 2]) == pytest.approx(lowest * math.cos(math.radians(1.7)), rel=0.05)
    assert np.isnan(grid.points[:80]).all()  # the horizon is at row 84
    odd = grid_of(Calibration(1279, 717, 880.0, 880.0, 639.5, 359.5))
    assert odd.points.shape == (179, 319, 3)
    assert grid_of(Calibration(3, 2, 1.0, 1.0, 1.0, 0.5)).points.shape == (1, 1, 3)


def test_the_free_ground_has_points_up_to_where_it_ends() -> None:
    mask = np.full((720, 1280), ROAD, np.uint8)
    mask[:490, 640:] = PAVEMENT
    grid = grid_of()
    cut = grid.cut(mask, boundary_of(mask), UNLABELED)
    seen = np.isfinite(cut.points[..., 2])
    np.testing.assert_array_equal(seen[:, :160], np.isfinite(grid.points[:, :160, 2]))  # free to the greatest range
    assert not seen[:122, 160:].any()
    assert seen[122:, 160:].all()  # row 489 is in the cell of the rows 488 to 491
    assert (cut.class_map[123:, 160:] == ROAD).all()
    assert (cut.class_map[122, 160:] == PAVEMENT).all()
    np.testing.assert_array_equal(cut.points[122:, 160:], grid.points[122:, 160:])


@pytest.mark.parametrize("column", [803, 800])
def test_an_obstacle_thinner_than_a_cell_ends_its_column_and_gives_its_class(column: int) -> None:
    mask = np.full((720, 1280), ROAD, np.uint8)
    mask[600:604, column] = CAR
    cut = grid_of().cut(mask, boundary_of(mask), UNLABELED)
    seen = np.isfinite(cut.points[..., 2])
    assert cut.class_map[150, 200] == CAR
    assert seen[150:, 200].all()
    assert not seen[:150, 200].any()
    assert seen[140:, 199].all()
    assert seen[140:, 201].all()


def test_unlabelled_ground_and_rows_of_the_vehicle_have_no_points() -> None:
    mask = np.full((720, 1280), ROAD, np.uint8)
    mask[640:] = CAR
    mask[:, :100] = UNLABELED
    grid = grid_of(ignore_bottom_px=80)
    cut = grid.cut(mask, boundary_of(mask, 80), UNLABELED)
    seen = np.isfinite(cut.points[..., 2])
    assert not seen[160:].any()
    assert not seen[:, :25].any()
    assert seen[150:160, 25:].all()
    assert not np.isfinite(grid_of(ignore_bottom_px=81).points[159]).any()
    assert not np.isfinite(grid_of(ignore_bottom_px=9999).points).any()


def test_a_blocked_image_keeps_the_nearest_points_alone() -> None:
    mask = np.full((717, 1279), PAVEMENT, np.uint8)  # the last row of pixels fills no cell
    grid = grid_of(Calibration(1279, 717, 880.0, 880.0, 639.5, 359.5))
    cut = grid.cut(mask, boundary_of(mask), UNLABELED)
    seen = np.isfinite(cut.points[..., 2])
    assert seen[-1].all()
    assert not seen[:-1].any()
    assert (cut.class_map == PAVEMENT).all()


def test_class_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected class maps of 1280x720.*got 32x24"):
        grid_of().cut(np.zeros((24, 32), np.uint8), np.zeros(32, np.int32), UNLABELED)


def test_too_many_points_are_refused_with_the_remedy() -> None:
    with pytest.raises(
        ValueError, match=r"at most 1048576 points.*got 4096x4096; raise ground_points.stride_px, now 4"
    ):
        CellRays(Calibration(16384, 16384, 9e3, 9e3, 8e3, 8e3), 4)


@pytest.fixture(scope="module")
def drive() -> SampleDrive:
    return SampleDrive(1, "day", 8.0, default_cameras(1280, 720))


@pytest.mark.parametrize(("camera_name", "time_s"), [("front", 2.0), ("left", 7.0)])
def test_points_of_the_sample_drive_lie_where_its_ground_is(
    drive: SampleDrive, camera_name: str, time_s: float
) -> None:
    """The renderer knows the depth of each pixel. Its exact mask gives points that are wrong by what docs allow."""
    camera = next(c for c in drive.cameras if c.name == camera_name)
    leaning = pose_in_vehicle(drive.camera_pose(camera_name, time_s), drive.world.car_pose(time_s))
    exact = CameraPose(tuple(leaning.position.tolist()), tuple(tuple(row) for row in leaning.rotation.tolist()))
    attitude_deg = np.degrees([camera.roll_rad, camera.pitch_rad, camera.yaw_rad]).tolist()
    mounted = CameraPose.from_mounting(camera.forward_m, camera.left_m, camera.height_m, *attitude_deg)
    matrix = camera.intrinsic_matrix
    calibration = Calibration(1280, 720, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    view = drive.render(camera_name, time_s, keeps_surface=True)
    boundary = boundary_of(view.class_map)
    # On a plane, 1 / depth is linear in the image: the mean of a cell is that of its middle.
    true_depth = 1 / np.maximum(view.surface.reshape(180, 4, 320, 4).mean(axis=(1, 3)), 1e-6)
    all_road = (view.class_map.reshape(180, 4, 320, 4) == ROAD).all(axis=(1, 3))
    for pose, lean_rad in ((exact, 0.0), (mounted, 0.006)):
        cut = grid_of(calibration, pose, 30.0).cut(view.class_map, boundary, UNLABELED)
        seen = np.isfinite(cut.points[..., 2])
        ground = seen & all_road
        assert ground.sum() > 5000
        found = cut.points[ground].astype(np.float64)
        scale = true_depth[ground] / found[:, 2]  # the true place is on the same ray
        error_m = np.abs(scale - 1) * np.linalg.norm(found, axis=-1)
        # docs/free_space.md: (r^2 + h^2) d / h along the ground for a pitch that is wrong by d.
        distance = np.hypot(np.linalg.norm(found, axis=-1), pose.position[2])
        assert (error_m <= 1.2 * lean_rad * distance**2 / pose.position[2] + 0.002 * distance + 0.005).all()
        # The last points: the end of the free space is within their cell, so they are wrong by half a cell at most, and
        # by a pixel of the mask.
        columns = np.flatnonzero((boundary.reshape(320, 4).max(axis=1) >= 0) & seen.any(axis=0))
        ends = seen[:, columns].argmax(axis=0)
        assert (cut.class_map[ends, columns] != ROAD).mean() > 0.9  # some columns reach the greatest range
        at_kerb = cut.class_map[ends, columns] == PAVEMENT
        assert at_kerb.sum() > 20
        last = cut.points[ends, columns].astype(np.float64)[at_kerb]
        ends_px = boundary.reshape(320, 4).max(axis=1)[columns][at_kerb]
        sides = boundary.reshape(320, 4).argmax(axis=1)[columns][at_kerb] + 4 * columns[at_kerb]
        foot_depth = 1 / view.surface[np.minimum(ends_px + 1, 719), sides]
        distance = np.hypot(np.linalg.norm(last, axis=-1), pose.position[2])
        pixel_m = distance**2 / (pose.position[2] * camera.focal_px)
        wrong_m = np.abs(foot_depth / last[:, 2] - 1) * np.linalg.norm(last, axis=-1)
        limit_m = (2 + 1) * pixel_m + 1.2 * lean_rad * distance**2 / pose.position[2] + 0.05
        assert (wrong_m <= limit_m).mean() >= 0.99
        assert np.median(wrong_m) <= 0.5 * np.median(limit_m)


def test_a_frame_leaves_nothing_in_the_next() -> None:
    grid, mask = grid_of(), np.full((720, 1280), ROAD, np.uint8)
    mask[:400] = CAR
    boundary = boundary_of(mask)
    cut = grid.cut(mask, boundary, UNLABELED)
    assert cut.points is not grid.points
    assert np.isfinite(grid.points[100:]).any()
    again = grid.cut(np.full((720, 1280), ROAD, np.uint8), np.full(1280, -1, np.int32), UNLABELED)
    np.testing.assert_array_equal(again.points, grid.points)
    assert (again.class_map == ROAD).all()
