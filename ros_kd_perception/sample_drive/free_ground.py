"""Exact ranges to the end of the road, from the geometry of a street and without any camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array, CameraPose, CarPose, rotation_z
from ros_kd_perception.sample_drive.street.road import ROAD_ID
from ros_kd_perception.sample_drive.street.world import World

_SHIFT = 4  # cv2 takes polygon corners in sixteenths of a pixel


@dataclass(frozen=True)
class TrueRanges:
    """Exact ranges for each direction, float64 (n,), metres from below the rear axle; inf beyond the greatest range.

    Attributes:
        road_m: Range to the first place that is not road, whatever stands on it.
        actor_m: Range to the first place below a vehicle or person.
    """

    road_m: Array
    actor_m: Array


def true_ranges(
    world: World, time_s: float, angles_rad: Array, range_max_m: float, resolution_m: float = 0.02
) -> TrueRanges:
    """Follow the ground from below the car's rear axle in each direction, on a plan of the street.

    Args:
        world: The street.
        time_s: Time in the drive.
        angles_rad: Directions counter-clockwise from straight ahead, float64 (n,).
        range_max_m: Greatest range.
        resolution_m: Side of the plan's squares, and so the resolution of the ranges.
    """
    car = world.car_pose(time_s)
    cells = 2 * int(range_max_m / resolution_m) + 3
    middle = cells // 2

    def corners(points: Array) -> NDArray[np.int32]:
        here = to_vehicle(points, car)[:, :2] / resolution_m + middle
        return np.rint(np.clip(here, -3 * cells, 4 * cells) * (1 << _SHIFT)).astype(np.int32)

    road = np.zeros((cells, cells), np.uint8)
    points, starts = world.patches.packed()
    flat = corners(points)
    for index, class_id in enumerate(world.patches.class_ids):
        polygon = flat[starts[index] : starts[index + 1]]
        cv2.fillPoly(road, [polygon], int(class_id == ROAD_ID), cv2.LINE_8, _SHIFT)
    actors = np.zeros((cells, cells), np.uint8)
    eye = world.seen_from(time_s) + np.array([0.0, 0.0, 1.4])
    for actor in world.actors.values():
        faces = actor.faces(world.path, time_s, world.weather.light, eye)
        if faces:
            outline = cv2.convexHull(corners(np.concatenate([face.points for face in faces])))
            cv2.fillPoly(actors, [np.asarray(outline, np.int32)], 1, cv2.LINE_8, _SHIFT)
    ranges = np.arange(0.0, range_max_m, resolution_m / 2)
    columns = np.rint(np.outer(np.cos(angles_rad), ranges) / resolution_m + middle).astype(np.int64)
    rows = np.rint(np.outer(np.sin(angles_rad), ranges) / resolution_m + middle).astype(np.int64)
    return TrueRanges(_first(road[rows, columns] == 0, ranges), _first(actors[rows, columns] != 0, ranges))


def to_vehicle(points: Array, car: CarPose) -> Array:
    """Take world points (n, 3) to the frame below the rear axle: x forward, y left, z up, level with the ground."""
    return np.asarray((points - np.array([car.x_m, car.y_m, 0.0])) @ rotation_z(car.heading_rad))


def pose_in_vehicle(pose: CameraPose, car: CarPose) -> CameraPose:
    """Return an optical frame in the frame of `to_vehicle`, with the lean of the car."""
    return CameraPose(to_vehicle(pose.position[None], car)[0], pose.rotation @ rotation_z(car.heading_rad))


def _first(ends: NDArray[np.bool_], ranges: Array) -> Array:
    return np.where(ends.any(axis=1), ranges[ends.argmax(axis=1)], np.inf)
