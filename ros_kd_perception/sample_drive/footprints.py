"""Exact places of vehicles and people on the ground, from the geometry of a street and without any camera."""

from __future__ import annotations

import numpy as np

from ros_kd_perception.sample_drive.camera import Array, CarPose, rotation_z
from ros_kd_perception.sample_drive.classes import BICYCLIST
from ros_kd_perception.sample_drive.free_ground import to_vehicle
from ros_kd_perception.sample_drive.street.actors import Actor
from ros_kd_perception.sample_drive.street.world import World
from ros_kd_perception.sample_drive.things.vehicles import Car

_PERSON_M, _BICYCLE_M = (0.5, 0.5), (1.8, 0.5)


def footprint(world: World, actor: Actor, time_s: float, car: CarPose) -> Array:
    """Return the rectangle that a vehicle or person covers, as seen from the car with the cameras.

    Args:
        world: The street.
        actor: One of its vehicles or people.
        time_s: Time in the drive.
        car: Pose of the car with the cameras.

    Returns:
        float64 (4, 3), the corners in order, in the frame of `to_vehicle`. z is 0 on the road, more on a pavement.
    """
    length_m, width_m = _PERSON_M
    if isinstance(actor.looks, Car):
        length_m, width_m = actor.looks.shape.length_m, actor.looks.shape.width_m
    elif actor.class_id == BICYCLIST:
        length_m, width_m = _BICYCLE_M
    corners = np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]]) * (length_m / 2, width_m / 2, 0.0)
    here = corners @ rotation_z(actor.heading_rad(world.path, time_s)).T + actor.position(world.path, time_s)
    return to_vehicle(here, car)
