#!/usr/bin/env python3
"""Compare the free space on the ground with the truth, for exact masks and the student's masks, and measure its cost.

The benchmark renders a drive. It finds the ranges of every camera's scan from the renderer's exact mask and from the
mask of a student, and compares both with the geometry of the street. Ranges that end at a kerb are compared with the
kerb; ranges that end at a vehicle or person, with the nearest place below it. The mounting is that of the camera; the
car leans while it drives.

Usage: python benchmarks/free_space.py [--model MODEL.onnx] [--device DEVICE] [--frames N] [--max-gap-px N]
       [--picture OUT.png]
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from device_option import add_device_option

from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.free_space.boundary import blocked_classes, free_space_boundary
from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.ground_scan import Beams, CameraPose, GroundScan
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.sample_drive import SampleDrive
from ros_kd_perception.sample_drive.camera import CameraModel
from ros_kd_perception.sample_drive.free_ground import TrueRanges, true_ranges
from ros_kd_perception.structures import Frame

ROOT = Path(__file__).resolve().parents[1]
BANDS_M = ((0, 10), (10, 20), (20, 40))
TIMED_RUNS = 200


def main() -> int:
    """Parse the command line, drive, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--seed", type=int, default=2, help="seed of the street (2)")
    parser.add_argument("--frames", type=int, default=6, help="frames of each camera, two seconds apart (6)")
    parser.add_argument("--max-gap-px", type=int, default=0, help="value of the parameter free_space.max_gap_px (0)")
    parser.add_argument("--picture", type=Path, help="also draw the first frame of the front camera here")
    options = parser.parse_args()
    if not 1 <= options.frames <= 100 or not options.model.is_file():
        parser.error(f"expected a model file and 1 to 100 frames, got {options.model} and {options.frames}")
    cv2.setNumThreads(1)
    print_error_model()
    measure(options)
    return 0


def print_error_model() -> None:
    """Print the results of the formulas in docs/free_space.md for the front camera of the sample car."""
    height_m, focal_px = 1.45, 880.0
    print(f"error model: camera at {height_m} m, f = {focal_px:g} px")
    print("  range  one pixel  one cell (8 px)  0.5 deg of pitch  slope up 1 %  bumper 0.2 m up")
    for range_m in (5.0, 10.0, 20.0, 30.0, 40.0, 50.0):
        pixel = (range_m**2 + height_m**2) / (height_m * focal_px)
        pitch = (range_m**2 + height_m**2) / height_m * math.radians(0.5)
        slope = range_m * 0.01 * range_m / (height_m - 0.01 * range_m)
        bumper = range_m * 0.2 / (height_m - 0.2)
        off = f"{pitch:14.2f} m  {slope:17.2f} m  {bumper:13.2f} m"
        print(f"  {range_m:3.0f} m  {pixel:7.2f} m  {8 * pixel:13.2f} m  {off}")


def calibration_of(camera: CameraModel) -> Calibration:
    """Return the calibration in the drive's CameraInfo."""
    k = camera.intrinsic_matrix
    return Calibration(camera.width_px, camera.height_px, k[0, 0], k[1, 1], k[0, 2], k[1, 2])


def measure(options: argparse.Namespace) -> None:
    """Render the drive, compare the ranges, print the tables."""
    drive = SampleDrive(options.seed, "day", 2.0 * options.frames)
    model = OnnxModel.open(options.model, device=options.device, intra_op_threads=1)
    perceiver = Perceiver(model)
    blocked = blocked_classes(model.contract, ["road"])
    beams = Beams.from_increment(0.5, 40.0, 8.0)
    errors: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    for camera in drive.cameras:
        attitude_deg = np.degrees([camera.roll_rad, camera.pitch_rad, camera.yaw_rad]).tolist()
        pose = CameraPose.from_mounting(camera.forward_m, camera.left_m, camera.height_m, *attitude_deg)
        scan = GroundScan(calibration_of(camera), pose, beams, options.max_gap_px)
        for index in range(options.frames):
            time_s = 2.0 * index
            view = drive.render(camera.name, time_s)
            truth = true_ranges(drive.world, time_s, beams.angles_rad, beams.range_max_m)
            perception = perceiver.perceive([Frame(camera.name, 1, "", view.image_bgr)])[0]
            exact = scan.ranges(view.class_map, blocked)
            keep_errors(errors, "exact mask", scan, exact, exact, truth)
            keep_errors(errors, "student's mask", scan, scan.ranges(perception.class_map, blocked), exact, truth)
            if index == 0:
                costs["ranges"] += timed(partial(scan.ranges, perception.class_map, blocked))
                costs["boundary"] += timed(
                    partial(free_space_boundary, perception.class_map, blocked, options.max_gap_px)
                )
            if index == 0 and camera.name == "front" and options.picture:
                boundary = free_space_boundary(perception.class_map, blocked, options.max_gap_px)
                cv2.imwrite(str(options.picture), draw_overlay(view.image_bgr, perception, model.contract, boundary))
    print_tables(errors, costs, model)


def keep_errors(
    errors: dict[tuple[str, str], list[np.ndarray]],
    mask: str,
    scan: GroundScan,
    ranges: np.ndarray,
    exact: np.ndarray,
    truth: TrueRanges,
) -> None:
    """Store true range and error of every beam by the object that truly ends it.

    Beams that end before the image begins are left out.
    """
    # If the exact mask's range agrees with the kerb's, the beam ends at the kerb; otherwise something is in between.
    known = np.isfinite(exact) & np.isfinite(truth.road_m)
    gap_m = np.where(known, exact, 1e6) - np.where(known, truth.road_m, 0.0)
    at_kerb = (truth.road_m < truth.actor_m) & (np.abs(gap_m) < 0.1 * truth.road_m + 0.3)
    at_actor = (truth.actor_m < truth.road_m) & (exact < 1.5 * truth.actor_m)
    for what, beams, true_m in (("kerb", at_kerb, truth.road_m), ("vehicle or person", at_actor, truth.actor_m)):
        beams = beams & (true_m > scan.nearest_m)
        found = np.nan_to_num(ranges[beams], posinf=scan.beams.range_max_m)
        errors[what, mask].append(np.stack([true_m[beams], found - true_m[beams]]))


def timed(work: Callable[[], object]) -> list[float]:
    """Return the milliseconds of each of many runs."""
    durations = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        work()
        durations.append((time.perf_counter() - started) * 1e3)
    return durations


def print_tables(
    errors: dict[tuple[str, str], list[np.ndarray]], costs: dict[str, list[float]], model: OnnxModel
) -> None:
    """Print the errors by end of the beam, mask and distance, and the costs."""
    print(f"\nrange minus true range, m, {model.contract.name} {model.contract.version}, all cameras")
    print(f"  network: {model.provider.what_runs}")
    print("  ends at             mask            true range  beams  median   5 %    95 %   too far by > 10 %")
    for (what, mask), parts in errors.items():
        true_m, error_m = np.concatenate(parts, axis=1)
        for low, high in BANDS_M:
            here = (true_m >= low) & (true_m < high)
            if not here.any():
                continue
            middle, least, most = np.percentile(error_m[here], (50, 5, 95))
            too_far = np.mean(error_m[here] > 0.1 * true_m[here])
            band = f"{low}-{high} m"
            print(
                f"  {what:18s}  {mask:14s}  {band:>10s}  {here.sum():5d}  {middle:6.2f} {least:6.2f} {most:6.2f}"
                f"   {too_far:6.1%}"
            )
    print("\ncost of one 1280x720 frame, one thread, ms")
    for name, durations in costs.items():
        middle, most = np.percentile(durations, (50, 95))
        print(f"  {name:9s} p50 {middle:.3f}  p95 {most:.3f}")


if __name__ == "__main__":
    raise SystemExit(main())
