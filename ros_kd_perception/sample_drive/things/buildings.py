"""Houses along a street: boxes with a textured front, sides, roof and chimneys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from ros_kd_perception.sample_drive.camera import Array, cross, unit
from ros_kd_perception.sample_drive.canvas.panel import Panel, Texture
from ros_kd_perception.sample_drive.canvas.shapes import Light
from ros_kd_perception.sample_drive.things import facades
from ros_kd_perception.sample_drive.things.facades import FacadeStyle

_UP = np.array([0.0, 0.0, 1.0])


@dataclass
class Building:
    """A house. Its pictures are drawn from its own seed when it is first visible, so the order does not matter.

    `left` and `right` are the ends of its front as seen from the street, float64 (3,).
    """

    left: Array
    right: Array
    height_m: float
    depth_m: float
    roof: str
    rise_m: float
    style: FacadeStyle
    has_shop: bool
    lit: float
    seed: int
    light: Light
    identity: int
    chimneys: int = 0
    middle: Array = field(init=False)
    radius_m: float = field(init=False)

    def __post_init__(self) -> None:
        self.middle = (self.left + self.right) / 2 - self._outward * self.depth_m / 2
        self.radius_m = float(np.hypot(self.width_m, self.depth_m)) / 2 + self.height_m + self.rise_m

    @property
    def width_m(self) -> float:
        """Return the length of its front."""
        return float(np.linalg.norm(self.right - self.left))

    @property
    def _outward(self) -> Array:
        along = (self.right - self.left) / max(self.width_m, 1e-6)
        return np.array([along[1], -along[0], 0.0])

    def _panel(
        self, origin: Array, right: Array, up: Array, draw: Callable[[], facades.Picture], cut: bool = False
    ) -> Panel:
        """Make one face; `cut` trims it to the triangle under a pitched roof."""
        outward = unit(cross(right, up))
        gain = self.light.gain(outward)

        def texture() -> Texture:
            picture = facades.lit_by(draw(), gain)
            return facades.gable(picture) if cut else Texture.build(picture)

        return Panel(origin, right, up, texture, self.identity, outward)

    def _rng(self, part: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, part])

    def _wall(self, part: int, width_m: float, height_m: float) -> Callable[[], facades.Picture]:
        return lambda: facades.wall(self._rng(part), width_m, height_m, self.style)

    @cached_property
    def panels(self) -> list[Panel]:
        """Return all faces of the house."""
        back = -self._outward * self.depth_m
        along, up = self.right - self.left, _UP * self.height_m

        def front() -> facades.Picture:
            return facades.front(self._rng(0), self.width_m, self.height_m, self.style, self.has_shop, self.lit)

        side = self._wall(1, self.depth_m, self.height_m)
        panels = [
            self._panel(self.left, along, up, front),
            self._panel(self.left + back, -back, up, side),
            self._panel(self.right, back, up, side),
        ]
        if self.roof == "ridge":
            panels += self._ridge_roof(along, back, up)
        elif self.roof == "gable":
            panels += self._gable_roof(along, back, up)
        return panels + self._chimneys(along, back)

    def _ridge_roof(self, along: Array, back: Array, up: Array) -> list[Panel]:
        slope = back / 2 + _UP * self.rise_m
        overhang = unit(-back) * 0.25 - _UP * 0.1
        length = float(np.linalg.norm(slope))
        tiles = lambda: facades.roof(self._rng(2), self.width_m, length, self.style)  # noqa: E731
        triangle = self._wall(3, self.depth_m, self.rise_m)
        rise = _UP * self.rise_m
        return [
            self._panel(self.left + up + overhang, along, slope - overhang, tiles),
            self._panel(self.left + back + up, -back, rise, triangle, cut=True),
            self._panel(self.right + up, back, rise, triangle, cut=True),
        ]

    def _gable_roof(self, along: Array, back: Array, up: Array) -> list[Panel]:
        length = float(np.hypot(self.width_m / 2, self.rise_m))
        tiles = lambda: facades.roof(self._rng(2), self.depth_m, length, self.style)  # noqa: E731
        rise = _UP * self.rise_m
        return [
            self._panel(self.left + up, along, rise, self._wall(3, self.width_m, self.rise_m), cut=True),
            self._panel(self.left + back + up, -back, along / 2 + rise, tiles),
            self._panel(self.right + up, back, -along / 2 + rise, tiles),
        ]

    def _chimneys(self, along: Array, back: Array) -> list[Panel]:
        panels = []
        rng, inward = self._rng(4), unit(back)
        bricks = self._wall(5, 1.0, 1.8)
        for index in range(self.chimneys):
            share = 0.05 if index == 0 else 0.9
            foot = self.left + along * share + back * 0.42 + _UP * (self.height_m + self.rise_m * 0.6)
            wide, deep, up = unit(along) * rng.uniform(0.5, 1.1), inward * 0.6, _UP * rng.uniform(1.3, 2.4)
            for origin, right in ((foot, wide), (foot + deep, -deep), (foot + wide, deep)):
                panels.append(self._panel(origin, right, up, bricks))
        return panels


@dataclass(frozen=True)
class StreetKind:
    """The kind of houses along a stretch."""

    name: str
    storeys: tuple[int, int]
    width_m: tuple[float, float]
    setback_m: tuple[float, float]
    shop_share: float
    office_share: float
    gap_share: float
    row_length: tuple[int, int]


STREET_KINDS = (
    StreetKind("terrace", (2, 3), (4.5, 7.0), (0.0, 3.5), 0.08, 0.0, 0.05, (4, 12)),
    StreetKind("shops", (2, 4), (5.0, 10.0), (0.0, 0.3), 0.8, 0.08, 0.03, (3, 9)),
    StreetKind("suburb", (2, 2), (7.0, 11.0), (4.0, 9.0), 0.0, 0.0, 0.55, (1, 2)),
    StreetKind("centre", (3, 6), (8.0, 22.0), (0.0, 2.0), 0.45, 0.45, 0.08, (1, 4)),
    StreetKind("park", (2, 3), (8.0, 14.0), (6.0, 12.0), 0.0, 0.1, 0.9, (1, 1)),
)


def build_row(
    rng: np.random.Generator,
    corners: tuple[Array, Array],
    kind: StreetKind,
    count: int,
    light: Light,
    lit: float,
    identity: int,
) -> list[Building]:
    """Build houses side by side between two corners (left and right seen from the street), float64 (3,) each."""
    is_office = bool(rng.random() < kind.office_share)
    style = FacadeStyle.draw(rng, is_office)
    storeys = int(rng.integers(kind.storeys[0], kind.storeys[1] + 1))
    roof = "flat" if is_office else str(rng.choice(["ridge", "gable", "flat"], p=[0.68, 0.17, 0.15]))
    base_height = storeys * style.storey_m + rng.uniform(0.2, 0.9)
    houses = []
    edges = np.linspace(0.0, 1.0, count + 1)
    alike = rng.random() < 0.6
    for start, end in pairwise(edges):
        if not alike:
            style = FacadeStyle.draw(rng, is_office)
            base_height = max(base_height + rng.uniform(-1.2, 1.2), 3.5)
        left, right = (corners[0] + (corners[1] - corners[0]) * share for share in (start, end))
        houses.append(
            Building(
                left=left, right=right, height_m=float(base_height), depth_m=float(rng.uniform(7, 12)), roof=roof,
                rise_m=float(rng.uniform(1.8, 3.6)) if roof != "flat" else 0.0, style=style,
                has_shop=bool(rng.random() < kind.shop_share), lit=lit, seed=int(rng.integers(1 << 40)), light=light,
                identity=identity, chimneys=int(rng.integers(0, 3)) if roof == "ridge" else 0,
            )
        )  # fmt: skip
    return houses
