"""Tests positions against a street whose objects are known: exact boxes, cameras on a car that leans."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from ros_kd_perception.free_space.calibration import Calibration
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.ground_positions.ground_camera import ErrorModel, GroundCamera, GroundPositions
from ros_kd_perception.model.letterbox import letterbox_geometry
from ros_kd_perception.sample_drive import RenderedView, SampleDrive, default_cameras
from ros_kd_perception.sample_drive.classes import PAVEMENT, ROAD
from ros_kd_perception.sample_drive.footprints import footprint
from ros_kd_perception.sample_drive.free_ground import pose_in_vehicle
from ros_kd_perception.structures import Detections

WIDTH, HEIGHT = 960, 540
GEOMETRY = letterbox_geometry(HEIGHT, WIDTH, 384, 640)
TIMES_S = (0.5, 3.5, 6.5, 9.5)
CHI_SQUARE_95 = 5.99  # of two dimensions


@dataclass(frozen=True)
class Seen:
    """An object with a visible foot: its position by the box, and the truth."""

    class_id: int
    point_m: np.ndarray
    covariance_m2: np.ndarray
    outline_m: np.ndarray  # [4, 3]

    @property
    def is_on_the_road(self) -> bool:
        return bool(self.outline_m[0, 2] < 0.01)


@functools.cache
def drive() -> SampleDrive:
    return SampleDrive(5, "day", 12.0, default_cameras(WIDTH, HEIGHT))


@functools.cache
def view_of(camera: str, time_s: float) -> RenderedView:
    return drive().render(camera, time_s)


def objects(errors: ErrorModel, *, knows_the_lean: bool) -> Iterator[Seen]:
    for time_s in TIMES_S:
        for camera in drive().cameras:
            k = camera.intrinsic_matrix
            calibration = Calibration(WIDTH, HEIGHT, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
            attitude_deg = np.degrees([camera.roll_rad, camera.pitch_rad, camera.yaw_rad]).tolist()
            pose = CameraPose.from_mounting(camera.forward_m, camera.left_m, camera.height_m, *attitude_deg)
            if knows_the_lean:
                car = drive().world.car_pose(time_s)
                true = pose_in_vehicle(drive().camera_pose(camera.name, time_s), car)
                pose = CameraPose(tuple(true.position.tolist()), tuple(map(tuple, true.rotation.tolist())))
            view = view_of(camera.name, time_s)
            # The scores carry the rows, because positions keep them.
            rows = np.linspace(1.0, 0.5, len(view.labels), dtype=np.float32)
            found = Detections(view.boxes_xyxy, rows, view.labels)
            positions = GroundCamera(calibration, pose, errors, 30.0).positions(found, GEOMETRY)
            yield from _with_truth(time_s, view, rows, positions)


def _with_truth(time_s: float, view: RenderedView, rows: np.ndarray, positions: GroundPositions) -> Iterator[Seen]:
    world = drive().world
    car = world.car_pose(time_s)
    for index, score in enumerate(positions.found.scores):
        [row] = np.flatnonzero(rows == score)
        identity = int(view.instance_ids[row])
        if identity not in world.actors or not _has_visible_foot(view, row):
            continue
        actor = world.actors[identity]
        outline = footprint(world, actor, time_s, car)
        yield Seen(actor.class_id, positions.points_m[index], positions.covariances_m2[index], outline)


def _has_visible_foot(view: RenderedView, row: int) -> bool:
    """Return whether the ground shows below the whole box, so that nothing hides the foot."""
    left, _, right, bottom = view.boxes_xyxy[row].astype(int)
    below = view.class_map[bottom + 1 : bottom + 3, max(left, 0) : right]
    return left > 2 and right < WIDTH - 2 and bool(np.isin(below, (ROAD, PAVEMENT)).mean() > 0.9)


def distance_m(point: np.ndarray, outline: np.ndarray) -> float:
    flat = outline[:, :2].astype(np.float32).reshape(-1, 1, 2)
    return max(0.0, -cv2.pointPolygonTest(flat, tuple(map(float, point)), True))


def mahalanobis_square(seen: Seen) -> float:
    """Return that of the nearest place of the outline, 0 inside."""
    if distance_m(seen.point_m, seen.outline_m) == 0:
        return 0.0
    corners = [*seen.outline_m[:, :2], seen.outline_m[0, :2]]
    off = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(corners)]) - seen.point_m
    return float(np.einsum("ni,ij,nj->n", off, np.linalg.inv(seen.covariance_m2), off).min())


def test_positions_are_exact_where_the_pose_of_the_camera_is() -> None:
    seen = [one for one in objects(ErrorModel(), knows_the_lean=True) if one.is_on_the_road]
    assert len(seen) >= 10
    for one in seen:
        # A pixel and a half of the picture, tyres that are drawn 3 cm into the road, legs apart.
        allowed_m = 0.35 + 1.5 * (one.point_m @ one.point_m) / (1.25 * 495)
        assert distance_m(one.point_m, one.outline_m) < allowed_m, one
        nearest_m = np.linalg.norm(one.outline_m[:, :2], axis=1).min()
        assert np.hypot(*one.point_m) < nearest_m + 2.5, "the position is that of the near side"


def test_most_true_positions_are_within_the_stated_ellipse() -> None:
    """The mounting alone is known, so the lean of the car is an error, as on a vehicle, and so are the kerbs."""
    inside = [mahalanobis_square(one) < CHI_SQUARE_95 for one in objects(ErrorModel(), knows_the_lean=False)]
    assert len(inside) >= 15
    assert np.mean(inside) >= 0.85
    # Ellipses that hold everything would prove nothing.
    overconfident = objects(ErrorModel(0.1, 0.0, 0.01, 0.01), knows_the_lean=False)
    tight = [mahalanobis_square(one) < CHI_SQUARE_95 for one in overconfident]
    assert np.mean(tight) < 0.75


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_ellipse_follows_the_error_model(scale: float) -> None:
    base = next(objects(ErrorModel(1.0, 0.05, 0.5, 0.5), knows_the_lean=False))
    other = next(objects(ErrorModel(scale, 0.05 * scale, 0.5 * scale, 0.5 * scale), knows_the_lean=False))
    np.testing.assert_allclose(other.covariance_m2, scale**2 * base.covariance_m2)
