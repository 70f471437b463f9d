"""Place lamps, signs, bollards, bins, railings and traffic lights."""

from __future__ import annotations

import numpy as np

from ros_kd_perception.sample_drive.camera import Array, unit
from ros_kd_perception.sample_drive.canvas.canvas import Color
from ros_kd_perception.sample_drive.canvas.shapes import scaled
from ros_kd_perception.sample_drive.classes import FENCE
from ros_kd_perception.sample_drive.street.layout import Layout
from ros_kd_perception.sample_drive.street.paving import Crossing
from ros_kd_perception.sample_drive.street.road import KERB_M
from ros_kd_perception.sample_drive.things import foliage
from ros_kd_perception.sample_drive.things.furniture import Bin, Pole, Sign

_UP = np.array([0.0, 0.0, 1.0])
_POLE_COLORS: tuple[Color, ...] = (
    (110, 114, 112), (60, 62, 60), (40, 42, 40), (150, 154, 155), (60, 84, 60), (45, 60, 45), (165, 168, 168),
)  # fmt: skip
_BOLLARD_COLORS: tuple[Color, ...] = ((28, 28, 28), (50, 70, 80), (120, 122, 122))
_BIN_COLORS: tuple[Color, ...] = ((30, 30, 30), (40, 60, 30), (60, 62, 64), (30, 30, 120))
_SIGN_SIZES_M = {"round": 0.3, "triangle": 0.35, "plate": 0.42, "board": 0.5, "banner": 0.5}
_PLATE_COLORS = (
    (150, 70, 20),
    (60, 110, 20),
    (215, 218, 218),
    (40, 200, 230),
    (30, 30, 160),
    (40, 40, 40),
    (60, 140, 235),
)


class Roadside:
    """Puts objects along the pavements of a layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.world, self.rng = layout, layout.world, layout.rng

    def put_up(self) -> None:
        """Add all objects."""
        self.lamps()
        self.signs()
        self.guard_rails()
        self.traffic_lights()

    def pole(
        self,
        along: float,
        across: float,
        height: float,
        radius: float,
        color: Color | None = None,
        arm: float = 0.0,
        stripes: bool = False,
    ) -> Array:
        """Add a pole and return its foot; its arm, if any, reaches over the road."""
        base = _POLE_COLORS[self.rng.integers(len(_POLE_COLORS))]
        drawn = scaled(base, self.rng.uniform(0.7, 1.2))
        foot = self.world.path.place(along, across, KERB_M)
        towards = unit(self.world.path.place(along, 0.0) - self.world.path.place(along, across))
        self.world.poles.append(Pole(foot, height, radius, drawn if color is None else color, towards, arm, stripes))
        return foot

    def lamps(self) -> None:
        """Add lamp posts along one side or both."""
        pitch, height = self.rng.uniform(22, 38), self.rng.uniform(5.0, 9.5)
        radius = self.rng.uniform(0.055, 0.1)
        sides = ([1.0, -1.0], [1.0], [-1.0])[self.rng.choice(3, p=[0.6, 0.2, 0.2])]
        color = scaled(_POLE_COLORS[self.rng.integers(len(_POLE_COLORS))], self.rng.uniform(0.8, 1.2))
        for side in sides:
            across = self.rng.choice([self.world.section.half_road_m + 0.45, self.layout.outer_m(side) - 0.25])
            for along in np.arange(self.layout.along[0] + self.rng.uniform(0, pitch), self.layout.along[1], pitch):
                if not any(a < along < b for a, b in self.layout.mouths(side, 1.0)):
                    self.pole(
                        float(along), side * across, height, radius, color=color, arm=float(self.rng.uniform(0.5, 1.8))
                    )

    def signs(self) -> None:
        """Add sign posts, bollards, boards and bins along the pavements."""
        for side in (1.0, -1.0):
            along = self.layout.along[0] + self.rng.uniform(0, 15)
            while along < self.layout.along[1]:
                if not any(a < along < b for a, b in self.layout.mouths(side, 1.0)):
                    self._one_sign(side, along)
                along += self.rng.uniform(6, 26)
            if self.rng.random() < 0.5:
                self._bollards(side)

    def _one_sign(self, side: float, along: float) -> None:
        section, rng = self.world.section, self.rng
        across = side * (section.half_road_m + 0.4 if rng.random() < 0.7 else self.layout.outer_m(side) - 0.3)
        if rng.random() < 0.16:
            foot = self.world.path.place(along, across + side * 0.3, KERB_M)
            color = _BIN_COLORS[rng.integers(len(_BIN_COLORS))]
            self.world.bins.append(Bin(foot, float(rng.uniform(0.9, 1.2)), float(rng.uniform(0.22, 0.32)), color))
            return
        if rng.random() < 0.2:
            self.pole(along, across, float(rng.uniform(3.0, 6.5)), float(rng.uniform(0.04, 0.09)))
            return
        kind = str(rng.choice(["round", "triangle", "plate", "board", "banner"], p=[0.34, 0.2, 0.2, 0.2, 0.06]))
        size = _SIGN_SIZES_M[kind] * float(rng.uniform(0.8, 1.5))
        height = float(rng.uniform(2.1, 3.0))
        foot = self.pole(along, across, height + size * 0.8, float(rng.uniform(0.035, 0.06)))
        self._plate(foot, height, kind, size, self._facing(along, side))
        if rng.random() < 0.35:
            below = str(rng.choice(["round", "plate"]))
            self._plate(foot, height - size - 0.3, below, size * 0.8, self._facing(along, side))

    def _facing(self, along: float, side: float) -> Array:
        """Return the direction of a sign.

        A sign on the car's side faces the car. A sign on the other side faces mostly the oncoming traffic.
        """
        own = side == self.world.section.drive_side or self.rng.random() < 0.4
        heading = self.world.path.heading_rad(along) + (np.pi if own else 0.0) + self.rng.normal(0, 0.12)
        if self.rng.random() < 0.1:
            heading += np.pi / 2
        return np.array([np.cos(heading), np.sin(heading), 0.0])

    def _plate(self, foot: Array, height: float, kind: str, size: float, facing: Array) -> None:
        if kind == "round":
            color = [(40, 30, 190), (160, 80, 20)][self.rng.integers(2)]
        else:
            color = _PLATE_COLORS[self.rng.integers(len(_PLATE_COLORS))]
        place = foot + _UP * height + facing * 0.06
        self.world.add_sign(Sign(place, facing, kind, size, color, float(self.rng.random())))

    def _bollards(self, side: float) -> None:
        pitch, color = self.rng.uniform(1.5, 3.5), _BOLLARD_COLORS[self.rng.integers(len(_BOLLARD_COLORS))]
        start = self.rng.uniform(self.layout.along[0], self.layout.along[1] - 40)
        for along in np.arange(start, start + self.rng.uniform(15, 60), pitch):
            if not any(a < along < b for a, b in self.layout.mouths(side, 0.5)):
                across = side * (self.world.section.half_road_m + 0.45)
                self.pole(float(along), across, 1.0, 0.075, color=color)

    def guard_rails(self) -> None:
        """Add pedestrian railings at some corners and crossings."""
        rails = foliage.railings(self.rng, 2.0, 1.05).lit(self.layout.light.gain(_UP) * 0.85)
        ends = (1.0, -1.0)
        spots = [(j.along_m + e * (j.width_m / 2 + 2), j.side, e) for j in self.world.junctions for e in ends]
        for crossing in self.world.crossings:
            reach = crossing.width_m / 2 + 0.8
            spots += [(crossing.along_m + e * reach, side, e) for side in ends for e in ends]
        for along, side, direction in spots:
            if self.rng.random() < 0.6:
                continue
            across = side * (self.world.section.half_road_m + 0.35)
            for index in range(int(self.rng.integers(3, 10))):
                a, b = along + direction * 2.0 * index, along + direction * 2.0 * (index + 1)
                if any(low < max(a, b) and min(a, b) < high for low, high in self.layout.mouths(side, 0.5)):
                    break
                self.layout.upright((a, across), (b, across), 1.05, rails, FENCE, KERB_M)

    def traffic_lights(self) -> None:
        """Add traffic lights at the crossings that have them, and globes at the others."""
        for crossing in self.world.crossings:
            # Green when the car gets there: the drive does not stop.
            arrival_s = crossing.along_m / self.world.ego.along_m_per_s
            phase_s = float(self.rng.uniform(2, 9)) - arrival_s
            for side in (1.0, -1.0):
                for end in (1.0, -1.0):
                    self._crossing_post(crossing, side, end, phase_s)

    def _crossing_post(self, crossing: Crossing, side: float, end: float, phase_s: float) -> None:
        section = self.world.section
        along = crossing.along_m - end * section.drive_side * side * (crossing.width_m / 2 + 0.5)
        across = side * (section.half_road_m + 0.4)
        if crossing.has_lights:
            facing = self._road(along) * (1.0 if along > crossing.along_m else -1.0)
            foot = self.pole(along, across, float(self.rng.uniform(2.9, 3.6)), 0.055)
            size = float(self.rng.uniform(0.85, 1.15))
            self.world.add_sign(Sign(foot + _UP * 2.75 + facing * 0.1, facing, "light", size, (0, 0, 0), phase_s))
        elif end > 0:
            foot = self.pole(along, across, 2.9, 0.06, (25, 25, 25), stripes=True)
            self.world.add_sign(Sign(foot + _UP * 3.05, -self._road(along), "globe", 0.17, (0, 0, 0)))

    def _road(self, along: float) -> Array:
        heading = self.world.path.heading_rad(along)
        return np.array([np.cos(heading), np.sin(heading), 0.0])
