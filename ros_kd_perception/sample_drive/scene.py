"""Paints a whole frame of a world: sky, ground, houses, then everything else from far to near."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array, rotation_z
from ros_kd_perception.sample_drive.canvas import Canvas, Panel
from ros_kd_perception.sample_drive.ground import GroundPainter
from ros_kd_perception.sample_drive.people import Person
from ros_kd_perception.sample_drive.sky import SkyPainter
from ros_kd_perception.sample_drive.vehicles import Car
from ros_kd_perception.sample_drive.world import POLE, TREE, UNLABELED_IDENTITY, Tree, World

FAR_M = 190.0
_UP = np.array([0.0, 0.0, 1.0])


class ScenePainter:
    """Paints the frames of one world; keeps nothing between frames but pictures that depend on the world alone."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world = world
        self.light = world.weather.light
        self.sky = SkyPainter(world.weather, rng)
        self.ground = GroundPainter(world, rng)
        self._building_middles = np.array([building.middle for building in world.buildings]).reshape(-1, 3)
        self._panel_middles = np.array([panel.middle for panel in world.panels]).reshape(-1, 3)
        self._tree_feet = np.array([tree.position for tree in world.trees]).reshape(-1, 3)
        self._pole_feet = np.array([pole.position for pole in world.poles]).reshape(-1, 3)
        self._sign_ids = list(world.signs)
        self._sign_places = np.array([world.signs[identity].position for identity in self._sign_ids]).reshape(-1, 3)

    def paint(self, canvas: Canvas, time_s: float) -> NDArray[np.float32]:
        """Paint everything; return 1 / depth of each pixel, float32 (h, w), 0 in the sky."""
        self.sky.paint(canvas, time_s)
        ground_nearness = self.ground.paint(canvas, self._shadows(canvas, time_s))
        self._buildings(canvas)
        steps: list[tuple[float, int, Callable[[], None]]] = []
        self._panels(canvas, steps)
        self._trees(canvas, steps)
        self._furniture(canvas, steps, time_s)
        self._actors(canvas, steps, time_s)
        for _, _, step in sorted(steps, key=lambda entry: (-entry[0], entry[1])):
            step()
        return np.maximum(ground_nearness, canvas.nearness)

    def _seen(self, canvas: Canvas, places: Array, margin_m: float) -> list[tuple[int, float]]:
        """Return index and depth of the places that may be in the picture."""
        if len(places) == 0:
            return []
        points = canvas.pose.to_camera(places)
        slope = canvas.camera.width_px * 0.56 / canvas.camera.focal_px
        depth = points[:, 2]
        reach = np.maximum(depth, 0.0) * slope + margin_m * (1 + slope)
        inside = (depth > -margin_m) & (depth < FAR_M) & (np.abs(points[:, 0]) < reach)
        return [(int(index), float(depth[index])) for index in np.flatnonzero(inside)]

    def _buildings(self, canvas: Canvas) -> None:
        eye = canvas.pose.position
        for index, _ in sorted(self._seen(canvas, self._building_middles, 16.0), key=lambda entry: entry[1]):
            for panel in self.world.buildings[index].panels:
                if panel.faces_eye(eye):
                    canvas.quad(panel)

    def _panels(self, canvas: Canvas, steps: list[tuple[float, int, Callable[[], None]]]) -> None:
        for index, depth in self._seen(canvas, self._panel_middles, 16.0):
            panel = self.world.panels[index]

            def step(panel=panel) -> None:  # type: ignore[no-untyped-def]
                canvas.quad(panel)

            steps.append((depth, len(steps), step))

    def _trees(self, canvas: Canvas, steps: list[tuple[float, int, Callable[[], None]]]) -> None:
        # The picture's plane is upright and faces the camera's axis, so that its far edge is not behind its middle.
        across = np.array([canvas.pose.rotation[0, 0], canvas.pose.rotation[0, 1], 0.0])
        across /= np.linalg.norm(across)
        for index, depth in self._seen(canvas, self._tree_feet, 7.0):
            if depth < 0.8:
                continue
            tree = self.world.trees[index]

            def step(tree: Tree = tree) -> None:
                right = across * tree.width_m
                canvas.quad(Panel(tree.position - right / 2, right, _UP * tree.height_m, lambda: tree.texture, TREE + 1))

            steps.append((depth, len(steps), step))

    def _furniture(self, canvas: Canvas, steps: list[tuple[float, int, Callable[[], None]]], time_s: float) -> None:
        eye = canvas.pose.position
        for index, depth in self._seen(canvas, self._pole_feet, 3.0):
            pole = self.world.poles[index]
            steps.append((depth, len(steps), lambda pole=pole, depth=depth: canvas.solid(pole.faces(self.light, eye), POLE + 1, depth)))  # type: ignore[misc]
        for index, depth in self._seen(canvas, self._sign_places, 2.0):
            identity = self._sign_ids[index]
            sign = self.world.signs[identity]
            steps.append((depth - 0.1, len(steps), lambda sign=sign, identity=identity, depth=depth: canvas.solid(sign.faces(self.light, eye, time_s), identity, depth - 0.1)))  # type: ignore[misc]
        for entry in self.world.bins:
            depth = float(canvas.pose.to_camera(entry.position[None])[0, 2])
            if 0.5 < depth < 80:
                steps.append((depth, len(steps), lambda entry=entry, depth=depth: canvas.solid(entry.faces(self.light, eye), UNLABELED_IDENTITY, depth)))  # type: ignore[misc]

    def _actors(self, canvas: Canvas, steps: list[tuple[float, int, Callable[[], None]]], time_s: float) -> None:
        identities = list(self.world.actors)
        path, eye = self.world.path, canvas.pose.position
        places = self.world.actor_places(time_s)
        for index, depth in self._seen(canvas, places, 6.0):
            actor = self.world.actors[identities[index]]
            if depth > 130 or (isinstance(actor.looks, Person) and depth > 90):
                continue
            steps.append((depth, len(steps), lambda actor=actor, identity=identities[index], depth=depth: canvas.solid(actor.faces(path, time_s, self.light, eye), identity, max(depth, 0.5))))  # type: ignore[misc]

    def _shadows(self, canvas: Canvas, time_s: float) -> list[tuple[Array, float]]:
        """Outline the shadows on the ground: what blocks the sun, and the darkness below cars and people."""
        shadows: list[tuple[Array, float]] = []
        here = self.world.seen_from(time_s)
        light = self.light
        sun_strength = light.sun_gain * max(light.to_sun[2], 0.1) / max(light.gain(_UP), 1e-6)
        sun_strength = min(sun_strength * 1.1 + (0.25 if light.sun_gain > 0.2 else 0.0), 0.6)
        fall = -light.to_sun[:2] / max(light.to_sun[2], 0.12)
        if light.sun_gain > 0.2:
            for building in self.world.buildings:
                if np.linalg.norm(building.middle - here) < 90:
                    back = building.middle * 2 - (building.left + building.right) / 2
                    depth = back - (building.left + building.right) / 2
                    foot = np.array([building.left, building.right, building.right + depth, building.left + depth])
                    shadows.append((_cast(foot, building.height_m + building.rise_m * 0.6, fall), sun_strength))
            for tree in self.world.trees:
                if np.linalg.norm(tree.position - here) < 60:
                    shadows.append((_tree_shadow(tree, fall), sun_strength * 0.7))
            for pole in self.world.poles:
                if np.linalg.norm(pole.position - here) < 40:
                    shadows.append((_cast(_square(pole.position, pole.radius_m), pole.height_m, fall), sun_strength))
        for actor, position in zip(self.world.actors.values(), self.world.actor_places(time_s)):
            if abs(position[0] - here[0]) > 80 or abs(position[1] - here[1]) > 80:
                continue
            turn = rotation_z(actor.heading_rad(self.world.path, time_s))
            if isinstance(actor.looks, Car):
                shape = actor.looks.shape
                half_x, half_y, height = shape.length_m / 2, shape.width_m / 2, shape.height_m
            else:
                half_x, half_y, height = (0.7, 0.18, 1.5) if actor.class_id == 10 else (0.25, 0.22, 1.6)
            foot = np.array([[half_x, half_y, 0], [-half_x, half_y, 0], [-half_x, -half_y, 0], [half_x, -half_y, 0]])
            foot = foot @ turn.T + position * np.array([1, 1, 0]) + _UP * position[2]
            if light.sun_gain > 0.2:
                shadows.append((_cast(foot, height * 0.9, fall), sun_strength))
            shadows.append(((foot - position) * 1.08 + position, 0.45))
            shadows.append(((foot - position) * 0.94 + position, 0.68))
        return shadows


def _cast(foot: Array, height_m: float, fall: Array) -> Array:
    """Return the outline of an upright prism's shadow, float64 (n, 3)."""
    shifted = foot + np.array([fall[0], fall[1], 0.0]) * height_m
    points = np.concatenate([foot, shifted])
    hull = cv2.convexHull(points[:, :2].astype(np.float32))[:, 0]
    return np.column_stack([hull, np.full(len(hull), foot[0, 2])]).astype(np.float64)


def _square(centre: Array, radius_m: float) -> Array:
    return centre + radius_m * np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])


def _tree_shadow(tree: Tree, fall: Array) -> Array:
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    middle = tree.position + np.array([fall[0], fall[1], 0.0]) * tree.height_m * 0.6
    reach = tree.width_m * (0.34 + 0.08 * np.sin(5 * angles) + 0.05 * np.cos(11 * angles))
    return middle + np.column_stack([np.cos(angles) * reach, np.sin(angles) * reach, np.zeros(14)])

