"""Line a street with rows of houses, gardens and trees."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ros_kd_perception.sample_drive.canvas.panel import Panel, Texture
from ros_kd_perception.sample_drive.classes import BUILDING, FENCE, TREE
from ros_kd_perception.sample_drive.street.road import KERB_M, Junction, free_stretches
from ros_kd_perception.sample_drive.street.world import Tree, World
from ros_kd_perception.sample_drive.things import facades, foliage
from ros_kd_perception.sample_drive.things.buildings import STREET_KINDS, StreetKind, build_row
from ros_kd_perception.sample_drive.things.facades import FacadeStyle

_UP = np.array([0.0, 0.0, 1.0])
_KIND_SHARES = (0.34, 0.28, 0.12, 0.16, 0.1)


@dataclass
class Layout:
    """Fills a world with buildings and plants; holds the state that the steps share."""

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
        self.tree_textures = [texture.lit(self.light.gain(_UP) * 0.95) for texture in self.tree_textures]
        self.hedge_textures = [
            foliage.hedge(rng, 8.0, float(rng.uniform(1.0, 2.4)), float(rng.uniform(0.05, 0.6))).lit(
                self.light.gain(_UP)
            )
            for _ in range(3)
        ]

    def build_up(self) -> None:
        """Line the road and its side streets with houses, gardens and trees."""
        rng, lit = self.rng, self.world.weather.lit_windows
        main = STREET_KINDS[rng.choice(5, p=_KIND_SHARES)]
        for side in (1.0, -1.0):
            for stretch in free_stretches(self.along, self.mouths(side, 2.4)):
                kind = main if rng.random() < 0.65 else STREET_KINDS[rng.choice(5, p=_KIND_SHARES)]
                setback = float(rng.uniform(*kind.setback_m))
                self.row_along(side, stretch, self.outer_m(side) + setback, kind, lit)
                if setback > 1.2:
                    self.front_garden(side, stretch)
            self.street_trees(side)
        for junction in self.world.junctions:
            self.side_street(junction, main, lit)

    def outer_m(self, side: float) -> float:
        """Return the distance of the pavement's far edge from the centre line."""
        return self.world.section.half_road_m + self.world.section.pavement_m(side)

    def mouths(self, side: float, margin_m: float) -> list[tuple[float, float]]:
        """Return the stretches along a side that side streets take."""
        return [
            (j.along_m - j.width_m / 2 - margin_m, j.along_m + j.width_m / 2 + margin_m)
            for j in self.world.junctions
            if j.side == side
        ]

    def upright(
        self, start: tuple[float, float], end: tuple[float, float], height_m: float, texture: Texture, class_id: int,
        up_m: float = 0.0,
    ) -> None:  # fmt: skip
        """Put an upright panel between two places (along, across)."""
        left = self.world.path.place(start[0], start[1], up_m)
        right = self.world.path.place(end[0], end[1], up_m)
        self.world.panels.append(Panel(left, right - left, _UP * height_m, lambda: texture, class_id + 1))

    def row_along(
        self, side: float, stretch: tuple[float, float], distance_m: float, kind: StreetKind, lit: float
    ) -> None:
        """Build houses that face the road."""
        start = stretch[0]
        while start < stretch[1] - 4:
            width = self.rng.uniform(*kind.width_m)
            count = int(self.rng.integers(kind.row_length[0], kind.row_length[1] + 1))
            count = max(min(count, int((stretch[1] - start) / width)), 1)
            end = min(start + width * count, stretch[1])
            if self.rng.random() < (0.75 if kind.name == "park" else kind.gap_share * 0.3):
                self.green(side, (start, end), distance_m)
            else:
                self._houses(side, (start, end), distance_m, kind, count, lit)
            start = end
            if self.rng.random() < kind.gap_share:
                gap = self.rng.uniform(2.0, 7.0)
                self.green(side, (start, min(start + gap, stretch[1])), distance_m)
                start += gap

    def _houses(
        self, side: float, stretch: tuple[float, float], distance_m: float, kind: StreetKind, count: int, lit: float
    ) -> None:
        # In a bend each short row keeps to a chord of the curve.
        pieces = max(int(np.ceil((stretch[1] - stretch[0]) / 24)), 1)
        for a, b in pairwise(np.linspace(stretch[0], stretch[1], pieces + 1)):
            left, right = (a, b) if side > 0 else (b, a)
            path = self.world.path
            corners = path.place(float(left), side * distance_m), path.place(float(right), side * distance_m)
            per_piece = max(round(count / pieces), 1)
            self.world.buildings += build_row(self.rng, corners, kind, per_piece, self.light, lit, BUILDING + 1)

    def green(self, side: float, stretch: tuple[float, float], distance_m: float) -> None:
        """Close a gap between houses with a hedge or a fence and trees behind."""
        edges = np.arange(stretch[0], stretch[1], 8.0)
        is_fence = self.rng.random() < 0.4
        fence = foliage.boards(self.rng, 8.0, 1.9).lit(self.light.gain(_UP) * 0.8)
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
        rails = foliage.railings(self.rng, 6.0, height).lit(gain)
        boards = foliage.boards(self.rng, 6.0, height + 0.5).lit(gain)
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
                left, right = (high, low) if end > 0 else (low, high)
                corners = path.place(place, left), path.place(place, right)
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

    def far_end(self) -> None:
        """Close the view beyond the last house: trees and houses across the road's end and far behind both sides."""
        last = self.along[1] + 10
        for across in np.arange(-100, 100, 9.0):
            self.tree(last + self.rng.uniform(0, 30), float(across), (6, 14))
        for along in np.arange(self.along[0], self.along[1], 16.0):
            for side in (1.0, -1.0):
                if self.rng.random() < 0.5:
                    self.tree(float(along), side * self.rng.uniform(34, 60), (8, 15))
