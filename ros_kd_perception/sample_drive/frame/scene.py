"""Paint a whole frame of a world: sky, ground, houses, then everything else from far to near."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array, unit
from ros_kd_perception.sample_drive.canvas.canvas import Canvas
from ros_kd_perception.sample_drive.canvas.panel import Panel
from ros_kd_perception.sample_drive.classes import POLE, TREE
from ros_kd_perception.sample_drive.frame.ground import GroundPainter
from ros_kd_perception.sample_drive.frame.shadows import shadows_of
from ros_kd_perception.sample_drive.frame.sky import SkyPainter
from ros_kd_perception.sample_drive.street.world import UNLABELED_IDENTITY, Tree, World
from ros_kd_perception.sample_drive.things.furniture import Bin, Pole
from ros_kd_perception.sample_drive.things.people import Person

# Objects beyond this distance are smaller than a few pixels, or hidden by the street.
FAR_M, CAR_FAR_M, PERSON_FAR_M = 190.0, 130.0, 90.0
_UP = np.array([0.0, 0.0, 1.0])
Steps = list[tuple[float, Callable[[], None]]]


class ScenePainter:
    """Paints the frames of one world. Between frames it keeps only pictures that depend on the world alone."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world = world
        self.light = world.weather.light
        self.sky = SkyPainter(world.weather, rng)
        self.ground = GroundPainter(world, rng)
        self._building_middles = np.array([building.middle for building in world.buildings]).reshape(-1, 3)
        self._panel_middles = np.array([panel.middle for panel in world.panels]).reshape(-1, 3)
        self._tree_feet = np.array([tree.position for tree in world.trees]).reshape(-1, 3)
        self._pole_feet = np.array([pole.position for pole in world.poles]).reshape(-1, 3)
        self._bin_feet = np.array([entry.position for entry in world.bins]).reshape(-1, 3)
        self._sign_ids = list(world.signs)
        self._sign_places = np.array([world.signs[identity].position for identity in self._sign_ids]).reshape(-1, 3)

    def paint(self, canvas: Canvas, time_s: float) -> NDArray[np.float32]:
        """Paint everything; return 1 / depth of each pixel, float32 (h, w), 0 in the sky."""
        self.sky.paint(canvas, time_s)
        if canvas.surface is not None:
            canvas.surface[:] = 0.0  # the skyline moves with the camera, as if it were infinitely far away
        ground_nearness = self.ground.paint(canvas, shadows_of(self.world, time_s))
        self._buildings(canvas)
        steps: Steps = []
        self._panels(canvas, steps)
        self._trees(canvas, steps)
        self._furniture(canvas, steps, time_s)
        self._actors(canvas, steps, time_s)
        for _, step in sorted(steps, key=lambda entry: -entry[0]):
            step()
        return np.maximum(ground_nearness, canvas.nearness)

    def _seen(self, canvas: Canvas, places: Array, margin_m: float) -> list[tuple[int, float]]:
        """Return index and depth of the places that may be visible in the picture."""
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

    def _panels(self, canvas: Canvas, steps: Steps) -> None:
        for index, depth in self._seen(canvas, self._panel_middles, 16.0):
            steps.append((depth, partial(canvas.quad, self.world.panels[index])))

    def _trees(self, canvas: Canvas, steps: Steps) -> None:
        # The picture's plane is upright and faces the camera's axis, so that its far edge is not behind its middle.
        across = unit(np.array([canvas.pose.rotation[0, 0], canvas.pose.rotation[0, 1], 0.0]))
        for index, depth in self._seen(canvas, self._tree_feet, 7.0):
            if depth >= 0.8:
                steps.append((depth, partial(canvas.quad, _billboard(self.world.trees[index], across))))

    def _furniture(self, canvas: Canvas, steps: Steps, time_s: float) -> None:
        for index, depth in self._seen(canvas, self._pole_feet, 3.0):
            steps.append((depth, partial(self._pole, canvas, self.world.poles[index], depth)))
        for index, depth in self._seen(canvas, self._sign_places, 2.0):
            # A sign hangs in front of its pole.
            steps.append((depth - 0.1, partial(self._sign, canvas, self._sign_ids[index], depth - 0.1, time_s)))
        for index, depth in self._seen(canvas, self._bin_feet, 1.0):
            if 0.5 < depth < 80:
                steps.append((depth, partial(self._bin, canvas, self.world.bins[index], depth)))

    def _pole(self, canvas: Canvas, pole: Pole, depth_m: float) -> None:
        canvas.solid(pole.faces(self.light, canvas.pose.position), POLE + 1, depth_m)

    def _sign(self, canvas: Canvas, identity: int, depth_m: float, time_s: float) -> None:
        faces = self.world.signs[identity].faces(self.light, canvas.pose.position, time_s)
        canvas.solid(faces, identity, depth_m)

    def _bin(self, canvas: Canvas, litter_bin: Bin, depth_m: float) -> None:
        canvas.solid(litter_bin.faces(self.light, canvas.pose.position), UNLABELED_IDENTITY, depth_m)

    def _actors(self, canvas: Canvas, steps: Steps, time_s: float) -> None:
        identities = list(self.world.actors)
        for index, depth in self._seen(canvas, self.world.actor_places(time_s), 6.0):
            is_person = isinstance(self.world.actors[identities[index]].looks, Person)
            if depth < (PERSON_FAR_M if is_person else CAR_FAR_M):
                steps.append((depth, partial(self._actor, canvas, identities[index], max(depth, 0.5), time_s)))

    def _actor(self, canvas: Canvas, identity: int, depth_m: float, time_s: float) -> None:
        actor = self.world.actors[identity]
        faces = actor.faces(self.world.path, time_s, self.light, canvas.pose.position)
        canvas.solid(faces, identity, depth_m)


def _billboard(tree: Tree, across: Array) -> Panel:
    right = across * tree.width_m
    return Panel(tree.position - right / 2, right, _UP * tree.height_m, lambda: tree.texture, TREE + 1)
