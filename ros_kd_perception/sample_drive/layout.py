"""Decides what stands where along a street: rows of houses, gardens, trees, lamps, signs, railings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive import facades, foliage
from ros_kd_perception.sample_drive.buildings import STREET_KINDS, StreetKind, build_row
from ros_kd_perception.sample_drive.camera import Array
from ros_kd_perception.sample_drive.canvas import Panel, Texture
from ros_kd_perception.sample_drive.facades import FacadeStyle
from ros_kd_perception.sample_drive.furniture import Bin, Pole, Sign
from ros_kd_perception.sample_drive.road import KERB_M, Junction, free_stretches
from ros_kd_perception.sample_drive.world import BUILDING, FENCE, TREE, Tree, World

_UP = np.array([0.0, 0.0, 1.0])
_PLATE_COLORS = ((150, 70, 20), (60, 110, 20), (215, 218, 218), (40, 200, 230), (30, 30, 160), (40, 40, 40), (60, 140, 235))


@dataclass
class Layout:
    """Fills a world; holds what the steps share."""

    rng: np.random.Generator
    world: World
    along: tuple[float, float]

    def __post_init__(self) -> None:
        rng = self.rng
        self.light = self.world.weather.light
        bare_share = float(rng.choice([0.0, 0.5, 1.0]))
        self.tree_textures = [
            (foliage.bare_tree(rng) if rng.random() < bare_share else foliage.leafy_tree(rng)) for _ in range(5)
        ]
        self.tree_textures = [_lit(texture, self.light.gain(_UP) * 0.95) for texture in self.tree_textures]
        self.hedge_textures = [
            _lit(foliage.hedge(rng, 8.0, float(rng.uniform(1.0, 2.4)), float(rng.uniform(0.05, 0.6))), self.light.gain(_UP))
            for _ in range(3)
        ]

    def outer_m(self, side: float) -> float:
        """Distance of the pavement's far edge from the centre line."""
        return self.world.section.half_road_m + self.world.section.pavement_m(side)

    def mouths(self, side: float, margin_m: float) -> list[tuple[float, float]]:
        """Stretches along a side that side streets take."""
        return [
            (j.along_m - j.width_m / 2 - margin_m, j.along_m + j.width_m / 2 + margin_m)
            for j in self.world.junctions
            if j.side == side
        ]

    def upright(
        self, start: tuple[float, float], end: tuple[float, float], height_m: float, texture: Texture, class_id: int,
        up_m: float = 0.0,
    ) -> None:  # fmt: skip
        """Stand a panel between two places (along, across)."""
        left = self.world.path.place(start[0], start[1], up_m)
        right = self.world.path.place(end[0], end[1], up_m)
        self.world.panels.append(Panel(left, right - left, _UP * height_m, lambda: texture, class_id + 1))

    def row_along(
        self, side: float, stretch: tuple[float, float], distance_m: float, kind: StreetKind, lit: float
    ) -> None:
        """Build houses that face the road."""
        path = self.world.path
        start = stretch[0]
        while start < stretch[1] - 4:
            width = self.rng.uniform(*kind.width_m)
            count = int(self.rng.integers(kind.row_length[0], kind.row_length[1] + 1))
            count = max(min(count, int((stretch[1] - start) / width)), 1)
            end = min(start + width * count, stretch[1])
            if self.rng.random() < (0.75 if kind.name == "park" else kind.gap_share * 0.3):
                self.green(side, (start, end), distance_m)
            else:
                # In a bend each short row keeps to a chord of the curve.
                pieces = max(int(np.ceil((end - start) / 24)), 1)
                edges = np.linspace(start, end, pieces + 1)
                for a, b in zip(edges[:-1], edges[1:]):
                    corners = path.place(float(a), side * distance_m), path.place(float(b), side * distance_m)
                    if side < 0:
                        corners = corners[::-1]
                    per_piece = max(int(round(count / pieces)), 1)
                    houses = build_row(self.rng, corners, kind, per_piece, self.light, lit, BUILDING + 1)
                    self.world.buildings += houses
            start = end
            if self.rng.random() < kind.gap_share:
                gap = self.rng.uniform(2.0, 7.0)
                self.green(side, (start, min(start + gap, stretch[1])), distance_m)
                start += gap

    def green(self, side: float, stretch: tuple[float, float], distance_m: float) -> None:
        """Close a gap between houses with a hedge or a fence and trees behind."""
        edges = np.arange(stretch[0], stretch[1], 8.0)
        is_fence = self.rng.random() < 0.4
        fence = _lit(foliage.boards(self.rng, 8.0, 1.9), self.light.gain(_UP) * 0.8)
        for start in edges:
            end = min(float(start) + 8.0, stretch[1])
            a, b = (float(start), side * (distance_m - 0.2)), (end, side * (distance_m - 0.2))
            if is_fence:
                self.upright(a, b, 1.9, fence, FENCE)
            else:
                self.upright(a, b, self.rng.uniform(1.2, 3.0), self.hedge_textures[self.rng.integers(3)], TREE)
            for _ in range(int(self.rng.integers(1, 4))):
                self.tree(self.rng.uniform(start, end), side * (distance_m + self.rng.uniform(1.5, 14)), (5, 13))

    def tree(self, along_m: float, across_m: float, height_m: tuple[float, float], up_m: float = 0.0) -> None:
        """Plant a tree."""
        height = float(self.rng.uniform(*height_m))
        texture = self.tree_textures[self.rng.integers(len(self.tree_textures))]
        position = self.world.path.place(along_m, across_m, up_m)
        self.world.trees.append(Tree(position, height, height * float(self.rng.uniform(0.7, 1.05)), texture))

    def front_garden(self, side: float, stretch: tuple[float, float]) -> None:
        """Put a wall, hedge or railings along the back of the pavement."""
        kind = str(self.rng.choice(["wall", "hedge", "railings", "boards"], p=[0.35, 0.3, 0.25, 0.1]))
        across = side * (self.outer_m(side) + 0.05)
        height = float(self.rng.uniform(0.7, 1.5))
        style = FacadeStyle.draw(self.rng)
        gain = self.light.gain(np.array([0.0, -side, 0.0]))
        wall = Texture.build(facades.lit_by(facades.wall(self.rng, 6.0, height, style), gain))
        rails = _lit(foliage.railings(self.rng, 6.0, height), gain)
        boards = _lit(foliage.boards(self.rng, 6.0, height + 0.5), gain)
        for start in np.arange(stretch[0], stretch[1], 6.0):
            end = min(float(start) + (6.0 if self.rng.random() < 0.7 else 4.9), stretch[1])
            a, b = (float(start), across), (end, across)
            if kind == "wall":
                self.upright(a, b, height, wall, BUILDING)
            elif kind == "hedge":
                self.upright(a, b, height + 0.3, self.hedge_textures[self.rng.integers(3)], TREE)
            elif kind == "railings":
                self.upright(a, b, height, rails, FENCE)
            else:
                self.upright(a, b, height + 0.5, boards, FENCE)
            if self.rng.random() < 0.25:
                self.tree(self.rng.uniform(start, end), across + side * self.rng.uniform(0.8, 2.5), (2.5, 7))

    def side_street(self, junction: Junction, kind: StreetKind, lit: float) -> None:
        """Line a side street with houses and close its far end."""
        path, side = self.world.path, junction.side
        first = self.outer_m(side) + self.rng.uniform(11.0, 15.0)
        last = self.world.section.half_road_m + junction.length_m
        for end in (1.0, -1.0):
            place = junction.along_m + end * (junction.width_m / 2 + 2.4 + self.rng.uniform(0, 1.5))
            start = first
            while start < last - 5:
                width = self.rng.uniform(*kind.width_m)
                low, high = sorted((side * start, side * (start + width)))
                corners = (path.place(place, high), path.place(place, low)) if end > 0 else (path.place(place, low), path.place(place, high))
                self.world.buildings += build_row(self.rng, corners, kind, 1, self.light, lit, BUILDING + 1)
                start += width
        far = side * (last + 3)
        hedge = self.hedge_textures[self.rng.integers(3)]
        self.upright((junction.along_m - 14, far), (junction.along_m + 14, far), 4.0, hedge, TREE)
        for offset in np.linspace(-10, 10, 5):
            self.tree(junction.along_m + float(offset), far - side * 2, (7, 13))

    def street_trees(self, side: float) -> None:
        """Plant trees at the kerb or at the back of a wide pavement."""
        if self.world.section.pavement_m(side) < 2.3 or self.rng.random() < 0.45:
            return
        pitch = self.rng.uniform(9, 25)
        at_kerb = self.rng.random() < 0.6
        for along in np.arange(self.along[0] + self.rng.uniform(0, pitch), self.along[1], pitch):
            if any(a < along < b for a, b in self.mouths(side, 2.0)) or self.rng.random() < 0.2:
                continue
            across = self.world.section.half_road_m + 0.7 if at_kerb else self.outer_m(side) - 0.5
            self.tree(float(along) + self.rng.uniform(-1, 1), side * across, (5, 12), KERB_M)

    def pole(self, along: float, across: float, height: float, radius: float, **options: object) -> Array:
        """Set up a pole and return its foot."""
        color = options.pop("color", None)
        base = self.rng.choice([[110, 114, 112], [60, 62, 60], [40, 42, 40], [150, 154, 155], [60, 84, 60]])
        foot = self.world.path.place(along, across, KERB_M)
        towards = self.world.path.place(along, 0.0) - self.world.path.place(along, across)
        towards = towards / max(float(np.linalg.norm(towards)), 1e-6)
        values = base * self.rng.uniform(0.7, 1.2) if color is None else np.asarray(color)
        arm = float(options.pop("arm", 0.0))  # type: ignore[arg-type]
        bgr = (float(values[0]), float(values[1]), float(values[2]))
        self.world.poles.append(Pole(foot, height, radius, bgr, towards, arm, bool(options.pop("stripes", False))))
        return foot

    def lamps(self) -> None:
        """Set lamp posts along both sides or one."""
        pitch, height = self.rng.uniform(22, 38), self.rng.uniform(5.0, 9.5)
        radius = self.rng.uniform(0.055, 0.1)
        sides = ([1.0, -1.0], [1.0], [-1.0])[self.rng.choice(3, p=[0.6, 0.2, 0.2])]
        color = self.rng.choice([[110, 114, 112], [60, 62, 60], [45, 60, 45], [165, 168, 168]]) * self.rng.uniform(0.8, 1.2)
        for side in sides:
            across = self.rng.choice([self.world.section.half_road_m + 0.45, self.outer_m(side) - 0.25])
            for along in np.arange(self.along[0] + self.rng.uniform(0, pitch), self.along[1], pitch):
                if not any(a < along < b for a, b in self.mouths(side, 1.0)):
                    self.pole(float(along), side * across, height, radius, color=color, arm=self.rng.uniform(0.5, 1.8))

    def signs(self) -> None:
        """Set sign posts, bollards, boards and bins along the pavements."""
        for side in (1.0, -1.0):
            along = self.along[0] + self.rng.uniform(0, 15)
            while along < self.along[1]:
                if not any(a < along < b for a, b in self.mouths(side, 1.0)):
                    self._one_sign(side, along)
                along += self.rng.uniform(6, 26)
            if self.rng.random() < 0.5:
                self._bollards(side)

    def _one_sign(self, side: float, along: float) -> None:
        section, rng = self.world.section, self.rng
        across = side * (section.half_road_m + 0.4 if rng.random() < 0.7 else self.outer_m(side) - 0.3)
        if rng.random() < 0.16:
            foot = self.world.path.place(along, across + side * 0.3, KERB_M)
            color = [(30, 30, 30), (40, 60, 30), (60, 62, 64), (30, 30, 120)][rng.integers(4)]
            self.world.bins.append(Bin(foot, float(rng.uniform(0.9, 1.2)), float(rng.uniform(0.22, 0.32)), color))
            return
        if rng.random() < 0.2:
            self.pole(along, across, float(rng.uniform(3.0, 6.5)), float(rng.uniform(0.04, 0.09)))
            return
        kind = str(rng.choice(["round", "triangle", "plate", "board", "banner"], p=[0.34, 0.2, 0.2, 0.2, 0.06]))
        size = float({"round": 0.3, "triangle": 0.35, "plate": 0.42, "board": 0.5, "banner": 0.5}[kind] * rng.uniform(0.8, 1.5))
        height = float(rng.uniform(2.1, 3.0))
        foot = self.pole(along, across, height + size * 0.8, float(rng.uniform(0.035, 0.06)))
        self._plate(foot, height, kind, size, self._facing(along, side))
        if rng.random() < 0.35:
            self._plate(foot, height - size - 0.3, str(rng.choice(["round", "plate"])), size * 0.8, self._facing(along, side))

    def _facing(self, along: float, side: float) -> Array:
        """Signs of the own side face the car, those of the other side mostly the oncoming traffic."""
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
        pitch, color = self.rng.uniform(1.5, 3.5), self.rng.choice([[28, 28, 28], [50, 70, 80], [120, 122, 122]])
        start = self.rng.uniform(self.along[0], self.along[1] - 40)
        for along in np.arange(start, start + self.rng.uniform(15, 60), pitch):
            if not any(a < along < b for a, b in self.mouths(side, 0.5)):
                across = side * (self.world.section.half_road_m + 0.45)
                self.pole(float(along), across, 1.0, 0.075, color=color)

    def guard_rails(self) -> None:
        """Stand pedestrian railings at some corners and crossings."""
        rails = _lit(foliage.railings(self.rng, 2.0, 1.05), self.light.gain(_UP) * 0.85)
        spots = [(j.along_m + e * (j.width_m / 2 + 2), j.side, e) for j in self.world.junctions for e in (1.0, -1.0)]
        spots += [(c.along_m + e * (c.width_m / 2 + 0.8), s, e) for c in self.world.crossings for s in (1.0, -1.0) for e in (1.0, -1.0)]
        for along, side, direction in spots:
            if self.rng.random() < 0.6:
                continue
            across = side * (self.world.section.half_road_m + 0.35)
            for index in range(int(self.rng.integers(3, 10))):
                a, b = along + direction * 2.0 * index, along + direction * 2.0 * (index + 1)
                if any(low < max(a, b) and min(a, b) < high for low, high in self.mouths(side, 0.5)):
                    break
                self.upright((a, across), (b, across), 1.05, rails, FENCE, KERB_M)

    def traffic_lights(self) -> None:
        """Set lights at the crossings that have them, globes at the others."""
        section = self.world.section
        for crossing in self.world.crossings:
            phase = float(self.rng.uniform(0, 24))
            for side in (1.0, -1.0):
                for end in (1.0, -1.0):
                    along = crossing.along_m - end * section.drive_side * side * (crossing.width_m / 2 + 0.5)
                    across = side * (section.half_road_m + 0.4)
                    if not crossing.has_lights:
                        if end > 0:
                            foot = self.pole(along, across, 2.9, 0.06, color=[25, 25, 25], stripes=True)
                            self.world.add_sign(Sign(foot + _UP * 3.05, -self._road(along), "globe", 0.17, (0, 0, 0)))
                        continue
                    facing = self._road(along) * (1.0 if (along > crossing.along_m) else -1.0)
                    foot = self.pole(along, across, float(self.rng.uniform(2.9, 3.6)), 0.055)
                    size = float(self.rng.uniform(0.85, 1.15))
                    self.world.add_sign(Sign(foot + _UP * 2.75 + facing * 0.1, facing, "light", size, (0, 0, 0), phase))

    def _road(self, along: float) -> Array:
        heading = self.world.path.heading_rad(along)
        return np.array([np.cos(heading), np.sin(heading), 0.0])

    def far_end(self) -> None:
        """Close the view beyond the last house: trees and houses across the road's end and far behind both sides."""
        last = self.along[1] + 10
        for across in np.arange(-100, 100, 9.0):
            self.tree(last + self.rng.uniform(0, 30), float(across), (6, 14))
        for along in np.arange(self.along[0], self.along[1], 16.0):
            for side in (1.0, -1.0):
                if self.rng.random() < 0.5:
                    self.tree(float(along), side * self.rng.uniform(34, 60), (8, 15))


def _lit(texture: Texture, gain: float) -> Texture:
    levels = tuple(facades.lit_by(level, gain) for level in texture.levels)
    return Texture(levels, texture.alphas, texture.masks)


def furnish(rng: np.random.Generator, world: World, along: tuple[float, float]) -> None:
    """Put up everything that stands still."""
    layout = Layout(rng, world, along)
    lit = world.weather.lit_windows
    shares = np.array([0.34, 0.28, 0.12, 0.16, 0.1])
    main = STREET_KINDS[rng.choice(5, p=shares)]
    for side in (1.0, -1.0):
        for stretch in free_stretches(along, layout.mouths(side, 2.4)):
            kind = main if rng.random() < 0.65 else STREET_KINDS[rng.choice(5, p=shares)]
            setback = float(rng.uniform(*kind.setback_m))
            layout.row_along(side, stretch, layout.outer_m(side) + setback, kind, lit)
            if setback > 1.2:
                layout.front_garden(side, stretch)
        layout.street_trees(side)
    for junction in world.junctions:
        layout.side_street(junction, main, lit)
    layout.lamps()
    layout.signs()
    layout.guard_rails()
    layout.traffic_lights()
    layout.far_end()


__all__ = ["Layout", "free_stretches", "furnish"]
