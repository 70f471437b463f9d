"""The street of one seed: everything that stands, lies and moves in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array, CarPose
from ros_kd_perception.sample_drive.canvas.panel import Panel, Texture
from ros_kd_perception.sample_drive.classes import MASK_CLASSES, SIGN, UNLABELED_ID
from ros_kd_perception.sample_drive.street.actors import Actor, Motion
from ros_kd_perception.sample_drive.street.paving import Crossing
from ros_kd_perception.sample_drive.street.road import CrossSection, GroundPatches, Junction, RoadPath
from ros_kd_perception.sample_drive.street.weather import Weather
from ros_kd_perception.sample_drive.things.buildings import Building
from ros_kd_perception.sample_drive.things.furniture import Bin, Pole, Sign

# Values of the id buffer: 0 for nothing, class id + 1 for objects without instances, then the instances.
UNLABELED_IDENTITY = 20
FIRST_INSTANCE = 100


@dataclass(frozen=True)
class Tree:
    """A tree whose picture always turns to the camera."""

    position: Array
    height_m: float
    width_m: float
    texture: Texture


@dataclass
class World:
    """Everything in one street. Instances (cars, people, signs) have ids from FIRST_INSTANCE on."""

    path: RoadPath
    section: CrossSection
    weather: Weather
    ego: Motion
    patches: GroundPatches
    junctions: list[Junction]
    crossings: list[Crossing]
    buildings: list[Building] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    poles: list[Pole] = field(default_factory=list)
    bins: list[Bin] = field(default_factory=list)
    signs: dict[int, Sign] = field(default_factory=dict)
    actors: dict[int, Actor] = field(default_factory=dict)

    def add_sign(self, sign: Sign) -> None:
        """Add a sign under an instance id of its own."""
        self.signs[FIRST_INSTANCE + len(self.signs) + len(self.actors)] = sign

    def add_actor(self, actor: Actor) -> None:
        """Add an actor under an instance id of its own."""
        self.actors[FIRST_INSTANCE + len(self.signs) + len(self.actors)] = actor

    def class_of_identity(self) -> NDArray[np.uint8]:
        """Return the table from the id buffer to segmentation class ids, uint8 (ids,)."""
        table = np.full(FIRST_INSTANCE + len(self.signs) + len(self.actors), UNLABELED_ID, np.uint8)
        table[1 : len(MASK_CLASSES) + 1] = np.arange(len(MASK_CLASSES))
        for identity in self.signs:
            table[identity] = SIGN
        for identity, actor in self.actors.items():
            table[identity] = actor.class_id
        return table

    def actor_places(self, time_s: float) -> Array:
        """Return the places of the feet or wheels of all actors, float64 (actors, 3), in the order of `actors`."""
        actors = list(self.actors.values())
        along = np.array([actor.motion.along(time_s) for actor in actors])
        across = np.array([actor.motion.across(time_s) for actor in actors])
        return self.path.place(along, across, np.array([actor.up_m for actor in actors]))

    def car_pose(self, time_s: float) -> CarPose:
        """Return the pose of the car with the cameras; it leans a little with the unevenness of the road."""
        along, across = self.ego.along(time_s), self.ego.across(time_s) + 0.12 * np.sin(0.31 * time_s)
        x, y, _ = self.path.place(along, across)
        pitch = 0.0035 * np.sin(2.3 * time_s) + 0.0018 * np.sin(7.1 * time_s + 1.0)
        roll = 0.003 * np.sin(1.7 * time_s + 0.6)
        return CarPose(float(x), float(y), self.path.heading_rad(along), float(pitch), float(roll))

    def seen_from(self, time_s: float) -> Array:
        """Return the car's place on the ground, float64 (3,)."""
        pose = self.car_pose(time_s)
        return np.array([pose.x_m, pose.y_m, 0.0])
