#!/usr/bin/env python3
"""Measure what the points on the free ground cost, and how far they lie from the true ground of a rendered drive.

The benchmark renders a drive with the depth of each pixel, cuts the ground at the end of the free space of the exact
mask, and compares each point with the place that its pixel shows. The mounting is that of the camera; the car leans
while it drives. The last points, where the free space ends, are shown apart: what ends it may stand above the ground.

Usage: python benchmarks/ground_points.py [--frames N] [--seed N] [--stride-px N]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import cv2
import numpy as np

from ros_kd_perception.free_space.boundary import free_space_boundary
from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.cell_rays import CellRays
from ros_kd_perception.free_space.ground_grid import GroundGrid
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.messages.serialized_results import SerializedResults
from ros_kd_perception.model.confidence import confidence_at
from ros_kd_perception.sample_drive import SampleDrive
from ros_kd_perception.sample_drive.camera import CameraModel
from ros_kd_perception.sample_drive.street.road import ROAD_ID
from ros_kd_perception.structures import Perception, RegionOfInterest, Timing, UncertaintyCells

UNLABELED_ID = 255
RANGE_MAX_M = 40.0
BANDS_M = ((0, 5), (5, 10), (10, 20), (20, 40))
TIMED_RUNS = 500
BLOCKED = np.full(256, 255, np.uint8)
BLOCKED[ROAD_ID] = 0


def main() -> int:
    """Parse the command line, drive, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=2, help="seed of the street (2)")
    parser.add_argument("--frames", type=int, default=6, help="frames of each camera, two seconds apart (6)")
    parser.add_argument("--stride-px", type=int, default=4, help="value of the parameter ground_points.stride_px (4)")
    options = parser.parse_args()
    if not 1 <= options.frames <= 100 or not 1 <= options.stride_px <= 64:
        parser.error(f"expected 1 to 100 frames and 1 to 64 px, got {options.frames} and {options.stride_px}")
    cv2.setNumThreads(1)
    drive = SampleDrive(options.seed, "day", 2.0 * options.frames)
    errors: dict[str, list[np.ndarray]] = defaultdict(list)
    for camera in drive.cameras:
        grid = grid_of(camera, options.stride_px)
        for index in range(options.frames):
            view = drive.render(camera.name, 2.0 * index, keeps_surface=True)
            keep_errors(errors, grid, view.class_map, view.surface)
    print_errors(errors)
    print_costs(grid_of(drive.cameras[0], options.stride_px), drive.render(drive.cameras[0].name, 0.0).class_map)
    return 0


def grid_of(camera: CameraModel, stride_px: int) -> GroundGrid:
    """Return the points on the ground of a camera as it is mounted."""
    k = camera.intrinsic_matrix
    calibration = Calibration(camera.width_px, camera.height_px, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
    attitude_deg = np.degrees([camera.roll_rad, camera.pitch_rad, camera.yaw_rad]).tolist()
    pose = CameraPose.from_mounting(camera.forward_m, camera.left_m, camera.height_m, *attitude_deg)
    return GroundGrid(CellRays(calibration, stride_px), pose, RANGE_MAX_M)


def keep_errors(
    errors: dict[str, list[np.ndarray]], grid: GroundGrid, class_map: np.ndarray, surface: np.ndarray
) -> None:
    """Store the true distance and the error of each point of a frame, those of free ground and the last ones apart."""
    cut = grid.cut(class_map, free_space_boundary(class_map, BLOCKED), UNLABELED_ID)
    # One over the depth is linear on a plane: its mean over a cell is that of the middle of the cell.
    side, (rows, columns) = grid.cells.cell_px, cut.class_map.shape
    nearness = surface[: rows * side, : columns * side].reshape(rows, side, columns, side).mean(axis=(1, 3))
    seen = np.isfinite(cut.points[..., 2]) & (nearness > 0)
    is_last = seen & (cut.class_map != ROAD_ID)
    for name, cells in (("free ground", seen & ~is_last), ("where it ends", is_last)):
        points = cut.points[cells].astype(np.float64)
        distance_m = np.linalg.norm(points, axis=-1)
        true_m = distance_m / (points[:, 2] * nearness[cells])  # the true place is on the same ray
        errors[name].append(np.stack([true_m, distance_m - true_m]))


def print_errors(errors: dict[str, list[np.ndarray]]) -> None:
    """Print the errors by distance from the camera."""
    print("distance of a point minus true distance on its ray, m, exact mask, all cameras")
    print("  points         true distance   number  median    5 %    95 %")
    for name, parts in errors.items():
        true_m, error_m = np.concatenate(parts, axis=1)
        for low, high in BANDS_M:
            here = (true_m >= low) & (true_m < high)
            if here.any():
                middle, least, most = np.percentile(error_m[here], (50, 5, 95))
                band = f"{low}-{high} m"
                print(f"  {name:13s}  {band:>13s}  {here.sum():7d}  {middle:6.2f}  {least:6.2f}  {most:6.2f}")


def print_costs(grid: GroundGrid, class_map: np.ndarray) -> None:
    """Print what a frame costs, step by step."""
    height, width = class_map.shape
    region = RegionOfInterest(0, 0, width, height)
    cells = UncertaintyCells(region, height / 12, width / 20)
    uncertainty = np.random.default_rng(0).random((12, 20), np.float32)
    seen = Perception("front", 1, "front_optical", class_map, None, uncertainty, Timing(0.0, 0.0, 0.0), cells)
    boundary = free_space_boundary(class_map, BLOCKED)
    cut, written = grid.cut(class_map, boundary, UNLABELED_ID), SerializedResults()

    def confidence() -> np.ndarray:
        return written.gray_image(seen, confidence_at(seen, grid.rows_px, grid.columns_px))

    def all_steps() -> None:
        now = grid.cut(class_map, free_space_boundary(class_map, BLOCKED), UNLABELED_ID)
        written.ground_points(seen, now.points)
        written.gray_image(seen, now.class_map)
        confidence()

    rows, columns = cut.class_map.shape
    print(f"\ncost of one {width}x{height} frame with {columns}x{rows} points, one thread, ms")
    for name, work in (
        ("boundary of the free space", lambda: free_space_boundary(class_map, BLOCKED)),
        ("cut of the points", lambda: grid.cut(class_map, boundary, UNLABELED_ID)),
        ("message of the points", lambda: written.ground_points(seen, cut.points)),
        ("message of the mask", lambda: written.gray_image(seen, cut.class_map)),
        ("confidence and its message", confidence),
        ("all of them", all_steps),
    ):
        middle, most = np.percentile(timed(work), (50, 95))
        print(f"  {name:26s}  p50 {middle:.3f}  p95 {most:.3f}")


def timed(work: Callable[[], object]) -> list[float]:
    """Return the milliseconds of each of many runs."""
    durations = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        work()
        durations.append((time.perf_counter() - started) * 1e3)
    return durations


if __name__ == "__main__":
    raise SystemExit(main())
