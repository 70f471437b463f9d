#!/usr/bin/env python3
"""Compare positions on the ground with the truth, for exact boxes and a student's boxes, and measure their cost.

The benchmark renders a drive. It prints by how much the lower edges of the student's boxes are off, how far positions
are from the near side of their objects, how many true places are within the 95 % ellipses, and what a frame costs. The
mounting is that of the camera; the car leans while it drives. Objects whose foot is hidden or cut are left out.

Usage: python benchmarks/ground_positions.py [--model MODEL.onnx] [--device DEVICE] [--frames N] [--boxes N ...]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from device_option import add_device_option

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.ground_positions.ground_camera import ErrorModel, GroundCamera
from ros_kd_perception.messages.ground_objects import markers_as_bytes
from ros_kd_perception.messages.serialized_results import SerializedResults
from ros_kd_perception.model.boxes import iou_xyxy, match_by_iou
from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.model.letterbox import InputGeometry, letterbox_geometry
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.sample_drive import RenderedView, SampleDrive
from ros_kd_perception.sample_drive.camera import CameraModel
from ros_kd_perception.sample_drive.classes import BOX_CLASSES, MASK_CLASSES, PAVEMENT, ROAD
from ros_kd_perception.sample_drive.footprints import footprint
from ros_kd_perception.structures import Detections, Frame, Perception, Timing

ROOT = Path(__file__).resolve().parents[1]
BANDS_M = ((0, 10), (10, 20), (20, 40))
HEIGHTS_PX = ((0, 40), (40, 80), (80, 160), (160, 720))
CHI_SQUARE_95 = 5.99  # of two dimensions
LEAST_IOU = 0.5
LENSES = {"pinhole": (), "plumb_bob": (-0.25, 0.06, 0.0006, -0.0004, -0.006)}


def main() -> int:
    """Parse the command line, drive, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--seed", type=int, default=2, help="seed of the street (2)")
    parser.add_argument("--frames", type=int, default=20, help="frames of each camera, a second apart (20)")
    parser.add_argument("--boxes", type=int, nargs="+", default=[10, 50, 100], help="boxes to time (10 50 100)")
    options = parser.parse_args()
    if not 1 <= options.frames <= 500 or not options.model.is_file():
        parser.error(f"expected a model file and 1 to 500 frames, got {options.model} and {options.frames}")
    if min(options.boxes) < 1 or max(options.boxes) > 1000:
        parser.error("expected 1 to 1000 boxes")
    cv2.setNumThreads(1)
    print_error_model()
    print_costs(options.boxes)
    print_accuracy(options)
    return 0


def print_error_model() -> None:
    """Print the standard errors that are stated for a person in front of the front camera of the sample car."""
    height_m, person_m, focal_px, geometry = 1.45, 1.7, 880.0, letterbox_geometry(720, 1280, 384, 640)
    pose = CameraPose.from_mounting(0.0, 0.0, height_m, 0.0, 0.0, 0.0)
    camera = GroundCamera(Calibration(1280, 720, focal_px, focal_px, 639.5, 359.5), pose, range_max_m=1e3)
    print(
        f"standard error of a person of {person_m} m, camera at {height_m} m, f = {focal_px:g} px, 2 px a network pixel"
    )
    print("  distance  along the line of sight  across")
    for distance_m in (5.0, 10.0, 20.0, 30.0, 40.0, 50.0):
        scale = focal_px / distance_m
        box = [640 - 0.3 * scale, 360 + (height_m - person_m) * scale, 640 + 0.3 * scale, 360 + height_m * scale]
        found = Detections(np.array([box], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
        [along_m, across_m] = np.sqrt(np.diag(camera.positions(found, geometry).covariances_m2[0]))
        print(f"  {distance_m:6.0f} m  {along_m:21.2f} m  {across_m:4.2f} m")
    print()


def print_costs(counts: list[int]) -> None:
    """Print the median time of each part of a frame with so many boxes."""
    print("cost of one frame, one thread, ms (median of 200)")
    print("  boxes  lens       positions  ground_detections  markers")
    for count in counts:
        for lens, coefficients in LENSES.items():
            camera = GroundCamera(
                Calibration(1280, 720, 880.0, 880.0, 639.5, 359.5, "plumb_bob", coefficients),
                CameraPose.from_mounting(1.6, 0.0, 1.45, 0.0, 1.7, 0.0),
                range_max_m=1e3,
            )
            found, geometry = standing_boxes(count), letterbox_geometry(720, 1280, 384, 640)
            seen = Perception("front", 1, "optical", None, found, None, Timing(0.0, 0.0, 0.0))
            positions, results = camera.positions(found, geometry), SerializedResults()
            classes = {n: ClassInfo(n, f"class {n}", (0, 128, 255)) for n in range(4)}
            works = (
                lambda camera=camera, found=found, geometry=geometry: camera.positions(found, geometry),
                lambda seen=seen, p=positions, r=results: r.ground_detections(seen, "base_link", p),
                lambda p=positions, classes=classes: markers_as_bytes(1, "base_link", p, classes),
            )
            times = [median_ms(work) for work in works]
            print(f"  {len(positions):5d}  {lens:9s}  {times[0]:9.3f}  {times[1]:17.3f}  {times[2]:7.3f}")


def standing_boxes(count: int) -> Detections:
    """Return tracked boxes that all stand on the ground."""
    random = np.random.default_rng(1)
    bottoms, middles = random.uniform(420, 600, count), random.uniform(150, 1130, count)
    sides = random.uniform(20, 110, (count, 2))
    left, right = middles - sides[:, 0] / 2, middles + sides[:, 0] / 2
    boxes = np.stack([left, bottoms - sides[:, 1], right, bottoms], axis=-1).astype(np.float32)
    labels = random.integers(0, 4, count).astype(np.int32)
    return Detections(boxes, np.full(count, 0.7, np.float32), labels, np.arange(1, count + 1))


def median_ms(work: object) -> float:
    """Return the median time of many runs."""
    times = []
    for _ in range(220):
        started = time.perf_counter_ns()
        work()  # type: ignore[operator]
        times.append((time.perf_counter_ns() - started) / 1e6)
    return float(np.median(times[20:]))


def print_accuracy(options: argparse.Namespace) -> None:
    """Render the drive, compare edges and positions, print the tables."""
    drive = SampleDrive(options.seed, "day", float(options.frames))
    model = OnnxModel.open(options.model, device=options.device, intra_op_threads=1)
    perceiver = Perceiver(model)
    ids = {info.id: info.name for info in model.contract.detection_classes}
    places: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    edges: list[tuple[float, float]] = []
    for camera in drive.cameras:
        for index in range(options.frames):
            time_s = float(index)
            view = drive.render(camera.name, time_s)
            frame = Frame(camera.name, 1, "", view.image_bgr)
            geometry = perceiver.geometry_of(frame)
            found = perceiver.perceive([frame])[0].require_detections()
            pairs = matched(view, found, ids)
            rows = np.array([row for row, _ in pairs], int)
            edges += [
                (float(view.boxes_xyxy[true, 3] - view.boxes_xyxy[true, 1]),
                 float(found.boxes_xyxy[row, 3] - view.boxes_xyxy[true, 3]))
                for row, true in pairs
            ]  # fmt: skip
            truth = [true for _, true in pairs]
            places["student's boxes"] += errors_of(drive, camera, time_s, view, found.rows(rows), truth, geometry)
            exact = [true for true in range(len(view.labels)) if has_visible_foot(view, true)]
            boxes = Detections(view.boxes_xyxy[exact], np.ones(len(exact), np.float32), view.labels[exact])
            places["exact boxes"] += errors_of(drive, camera, time_s, view, boxes, exact, geometry)
    print_edges(edges, geometry)
    print_places(places)


def matched(view: RenderedView, found: Detections, ids: dict[int, str]) -> list[tuple[int, int]]:
    """Return found boxes and the true boxes of their objects: same class, IoU of 0.5 or more, visible foot."""
    overlaps = iou_xyxy(found.boxes_xyxy, view.boxes_xyxy)
    for row, label in enumerate(found.labels):
        names = [MASK_CLASSES[BOX_CLASSES[other]] for other in view.labels]
        overlaps[row, [name != ids[int(label)] for name in names]] = 0.0
    return [(row, true) for row, true in match_by_iou(overlaps, LEAST_IOU) if has_visible_foot(view, true)]


def has_visible_foot(view: RenderedView, row: int) -> bool:
    """Return whether ground shows below the whole box, so that neither another object nor the image cuts it."""
    left, _, right, bottom = view.boxes_xyxy[row].astype(int)
    below = view.class_map[bottom + 1 : bottom + 4, left:right]
    is_inside = left > 2 and right < view.class_map.shape[1] - 2 and below.size > 0
    return bool(is_inside and np.isin(below, (ROAD, PAVEMENT)).mean() > 0.9)


def errors_of(
    drive: SampleDrive,
    camera: CameraModel,
    time_s: float,
    view: RenderedView,
    found: Detections,
    truth: list[int],
    geometry: InputGeometry,
) -> list[tuple[float, float, float]]:
    """Return for each object true distance, error along the line of sight, and the squared Mahalanobis distance."""
    k = camera.intrinsic_matrix
    calibration = Calibration(camera.width_px, camera.height_px, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
    attitude_deg = np.degrees([camera.roll_rad, camera.pitch_rad, camera.yaw_rad]).tolist()
    pose = CameraPose.from_mounting(camera.forward_m, camera.left_m, camera.height_m, *attitude_deg)
    ground = GroundCamera(calibration, pose, ErrorModel(), 60.0)
    eye = np.array([camera.forward_m, camera.left_m])
    errors = []
    for index, true in enumerate(truth):
        identity = int(view.instance_ids[true])
        one = ground.positions(found.rows(np.array([index])), geometry)
        if identity not in drive.world.actors or not len(one):
            continue
        corners = footprint(drive.world, drive.world.actors[identity], time_s, drive.world.car_pose(time_s))[:, :2]
        outline = np.concatenate([np.linspace(a, b, 40) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)])
        nearest_m = float(np.linalg.norm(outline - eye, axis=1).min())
        off = outline - one.points_m[0]
        square = float(np.einsum("ni,ij,nj->n", off, np.linalg.inv(one.covariances_m2[0]), off).min())
        inside = cv2.pointPolygonTest(corners.astype(np.float32).reshape(-1, 1, 2), tuple(one.points_m[0]), False) >= 0
        errors.append((nearest_m, float(np.linalg.norm(one.points_m[0] - eye)) - nearest_m, 0.0 if inside else square))
    return errors


def print_edges(edges: list[tuple[float, float]], geometry: InputGeometry) -> None:
    """Print the errors of lower edges by the height of the box."""
    network_px = geometry.region.height / geometry.placed_height
    heights, errors = np.array(edges).reshape(-1, 2).T
    print(f"\nlower edge of the student's boxes minus the true one; a pixel of the network is {network_px:g} px")
    print("  height of the box  boxes  mean px  RMS px  error model px")
    model = ErrorModel()
    for low, high in HEIGHTS_PX:
        here = (heights >= low) & (heights < high)
        if here.sum() > 1:
            stated = np.hypot(model.edge_error_px * network_px, model.edge_error_share * heights[here])
            rms = np.sqrt(np.mean(errors[here] ** 2))
            said = np.sqrt(np.mean(stated**2))
            print(f"  {low:6d} - {high:3d} px    {here.sum():5d}  {errors[here].mean():7.2f}  {rms:6.2f}  {said:14.2f}")


def print_places(places: dict[str, list[tuple[float, float, float]]]) -> None:
    """Print the errors of positions by distance."""
    print("\nposition minus near side of the object, along the line of sight, m; all cameras, vehicles and people")
    print("  boxes             true distance  objects  median    5 %    95 %   within the 95 % ellipse")
    for what, rows in places.items():
        distance_m, error_m, square = np.array(rows).reshape(-1, 3).T
        for low, high in BANDS_M:
            here = (distance_m >= low) & (distance_m < high)
            if here.any():
                middle, least, most = np.percentile(error_m[here], (50, 5, 95))
                share = np.mean(square[here] < CHI_SQUARE_95)
                band, spread = f"{low}-{high} m", f"{middle:6.2f} {least:6.2f} {most:7.2f}"
                print(f"  {what:16s}  {band:>13s}  {here.sum():7d}  {spread}   {share:23.1%}")


if __name__ == "__main__":
    raise SystemExit(main())
