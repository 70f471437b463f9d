"""Compute the outlines of shadows on the ground: cast by objects in the sun, and below cars and people."""

from __future__ import annotations

import cv2
import numpy as np

from ros_kd_perception.sample_drive.camera import Array, rotation_z
from ros_kd_perception.sample_drive.classes import BICYCLIST
from ros_kd_perception.sample_drive.street.actors import Actor
from ros_kd_perception.sample_drive.street.world import Tree, World
from ros_kd_perception.sample_drive.things.buildings import Building
from ros_kd_perception.sample_drive.things.vehicles import Car

Shadow = tuple[Array, float]
_SUNNY = 0.2  # below this share of direct sun, shadows have no outline
_UP = np.array([0.0, 0.0, 1.0])


def shadows_of(world: World, time_s: float) -> list[Shadow]:
    """Return polygons float64 (n, 3) on the ground near the car, each with the share of light that it takes, 0..1."""
    light, here = world.weather.light, world.seen_from(time_s)
    is_sunny = light.sun_gain > _SUNNY
    from_sun = light.sun_gain * max(float(light.to_sun[2]), 0.1) / max(light.gain(_UP), 1e-6)
    strength = min(from_sun * 1.1 + 0.25, 0.6)
    fall = -light.to_sun[:2] / max(float(light.to_sun[2]), 0.12)
    shadows: list[Shadow] = []
    if is_sunny:
        shadows += [(_of_building(b, fall), strength) for b in world.buildings if _is_near(b.middle, here, 90)]
        shadows += [(_of_tree(t, fall), strength * 0.7) for t in world.trees if _is_near(t.position, here, 60)]
        shadows += [
            (_cast(_square(pole.position, pole.radius_m), pole.height_m, fall), strength)
            for pole in world.poles
            if _is_near(pole.position, here, 40)
        ]
    for actor, position in zip(world.actors.values(), world.actor_places(time_s), strict=True):
        if not _is_near(position, here, 80):
            continue
        foot, height_m = _footprint(actor, actor.heading_rad(world.path, time_s))
        if is_sunny:
            shadows.append((_cast(foot + position, height_m * 0.9, fall), strength))
        # Even under a grey sky, little light gets below a car.
        shadows += [(foot * 1.08 + position, 0.45), (foot * 0.94 + position, 0.68)]
    return shadows


def _is_near(place: Array, here: Array, reach_m: float) -> bool:
    return bool(abs(place[0] - here[0]) < reach_m and abs(place[1] - here[1]) < reach_m)


def _footprint(actor: Actor, heading_rad: float) -> tuple[Array, float]:
    """Return the outline of an actor's foot about its middle, float64 (4, 3), and its height."""
    if isinstance(actor.looks, Car):
        shape = actor.looks.shape
        half_x, half_y, height_m = shape.length_m / 2, shape.width_m / 2, shape.height_m
    else:
        half_x, half_y, height_m = (0.7, 0.18, 1.5) if actor.class_id == BICYCLIST else (0.25, 0.22, 1.6)
    corners = np.array([[half_x, half_y, 0], [-half_x, half_y, 0], [-half_x, -half_y, 0], [half_x, -half_y, 0]])
    return corners @ rotation_z(heading_rad).T, height_m


def _cast(foot: Array, height_m: float, fall: Array) -> Array:
    """Return the outline of an upright prism's shadow, float64 (n, 3)."""
    shifted = foot + np.array([fall[0], fall[1], 0.0]) * height_m
    points = np.concatenate([foot, shifted])
    hull = cv2.convexHull(points[:, :2].astype(np.float32))[:, 0]
    return np.column_stack([hull, np.full(len(hull), foot[0, 2])]).astype(np.float64)


def _of_building(building: Building, fall: Array) -> Array:
    inward = 2 * (building.middle - (building.left + building.right) / 2)
    foot = np.array([building.left, building.right, building.right + inward, building.left + inward])
    return _cast(foot, building.height_m + building.rise_m * 0.6, fall)


def _square(centre: Array, radius_m: float) -> Array:
    return np.asarray(centre + radius_m * np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]]))


def _of_tree(tree: Tree, fall: Array) -> Array:
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    middle = tree.position + np.array([fall[0], fall[1], 0.0]) * tree.height_m * 0.6
    reach = tree.width_m * (0.34 + 0.08 * np.sin(5 * angles) + 0.05 * np.cos(11 * angles))
    return np.asarray(middle + np.column_stack([np.cos(angles) * reach, np.sin(angles) * reach, np.zeros(14)]))
