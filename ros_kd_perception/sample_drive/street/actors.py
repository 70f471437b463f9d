"""The vehicles and people of a street, and their places at any time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive.camera import Array
from ros_kd_perception.sample_drive.canvas.canvas import Face
from ros_kd_perception.sample_drive.canvas.shapes import Light
from ros_kd_perception.sample_drive.street.road import RoadPath
from ros_kd_perception.sample_drive.things.people import Person
from ros_kd_perception.sample_drive.things.vehicles import Car


@dataclass(frozen=True)
class Motion:
    """A motion along the road: uniform with a slow swing. From `start_s` on, also a walk across the road."""

    along_m: float
    across_m: float
    along_m_per_s: float = 0.0
    swing_m: float = 0.0
    swing_rad_per_s: float = 0.25
    across_m_per_s: float = 0.0
    start_s: float = 0.0
    end_across_m: float = 0.0

    def along(self, time_s: float) -> float:
        """Return the place along the road, metres."""
        swing = self.swing_m * np.sin(self.swing_rad_per_s * time_s)
        return float(self.along_m + self.along_m_per_s * time_s + swing)

    def across(self, time_s: float) -> float:
        """Return the place across the road, metres."""
        moved = self.across_m + self.across_m_per_s * max(time_s - self.start_s, 0.0)
        if self.across_m_per_s > 0:
            return min(moved, self.end_across_m)
        return max(moved, self.end_across_m) if self.across_m_per_s < 0 else moved

    def speed_m_per_s(self, time_s: float) -> float:
        """Return the current speed."""
        step = 0.05
        along = (self.along(time_s + step) - self.along(time_s)) / step
        across = (self.across(time_s + step) - self.across(time_s)) / step
        return float(np.hypot(along, across))


@dataclass(frozen=True)
class Actor:
    """A moving vehicle, pedestrian or bicyclist; `class_id` is the segmentation class."""

    looks: Car | Person
    class_id: int
    motion: Motion
    heading_offset_rad: float = 0.0
    up_m: float = 0.0
    phase_rad: float = 0.0

    def position(self, path: RoadPath, time_s: float) -> Array:
        """Return its place on the ground, float64 (3,)."""
        return path.place(self.motion.along(time_s), self.motion.across(time_s), self.up_m)

    def heading_rad(self, path: RoadPath, time_s: float) -> float:
        """Return the direction of its front."""
        here, next_step = self.motion.across(time_s), self.motion.across(time_s + 0.05)
        turn = np.sign(next_step - here) * np.pi / 2
        return float(path.heading_rad(self.motion.along(time_s)) + (turn if turn else self.heading_offset_rad))

    def faces(self, path: RoadPath, time_s: float, light: Light, eye: Array) -> list[Face]:
        """Return its visible faces at a time."""
        position, heading = self.position(path, time_s), self.heading_rad(path, time_s)
        if isinstance(self.looks, Car):
            return self.looks.faces(position, heading, light, eye)
        speed = self.motion.speed_m_per_s(time_s)
        if self.class_id == 10:
            return self.looks.cycling(position, heading, self.phase_rad + 5.5 * time_s, light, eye)
        phase = self.phase_rad + 2 * np.pi * time_s * speed / 1.45 if speed > 0.1 else 0.15
        return self.looks.walking(position, heading, phase, light, eye)
