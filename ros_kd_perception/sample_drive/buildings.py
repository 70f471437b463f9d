"""Houses along a street: boxes with a textured front, sides, roof and chimneys."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ros_kd_perception.sample_drive import facades
from ros_kd_perception.sample_drive.camera import Array
from ros_kd_perception.sample_drive.canvas import Texture
from ros_kd_perception.sample_drive.facades import FacadeStyle
from ros_kd_perception.sample_drive.shapes import Light

_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Panel:
    """A textured parallelogram in the world; `outward` is its unit normal, or None when it is seen from both sides."""

    origin: Array
    right: Array
    up: Array
    texture: Texture
    identity: int
    outward: Array | None = None

    @property
    def middle(self) -> Array:
        """Its centre, float64 (3,)."""
        return np.asarray(self.origin + (self.right + self.up) / 2)

    def faces_eye(self, eye: Array) -> bool:
        """Tell whether the eye is on the side that shows."""
        return self.outward is None or float((eye - self.origin) @ self.outward) > 0.02


@dataclass
class Building:
    """One house. Its pictures are drawn when it is first seen, from its own seed, so the order does not matter.

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
        """Length of its front."""
        return float(np.linalg.norm(self.right - self.left))

    @property
    def _outward(self) -> Array:
        along = (self.right - self.left) / max(self.width_m, 1e-6)
        return np.array([along[1], -along[0], 0.0])

    def _panel(self, origin: Array, right: Array, up: Array, texture: Texture) -> Panel:
        normal = np.cross(right, up)
        return Panel(origin, right, up, texture, self.identity, normal / max(float(np.linalg.norm(normal)), 1e-9))

    def _gain(self, right: Array, up: Array) -> float:
        normal = np.cross(right, up)
        return self.light.gain(normal / max(float(np.linalg.norm(normal)), 1e-9))

    def _textured(self, origin: Array, right: Array, up: Array, picture: facades.Picture) -> Panel:
        return self._panel(origin, right, up, Texture.build(facades.lit_by(picture, self._gain(right, up))))

    @cached_property
    def panels(self) -> list[Panel]:
        """All its faces."""
        rng = np.random.default_rng(self.seed)
        back = -self._outward * self.depth_m
        along, up = self.right - self.left, _UP * self.height_m
        picture = facades.front(rng, self.width_m, self.height_m, self.style, self.has_shop, self.lit)
        side = facades.wall(rng, self.depth_m, self.height_m, self.style)
        panels = [
            self._textured(self.left, along, up, picture),
            self._textured(self.left + back, -back, up, side),
            self._textured(self.right, back, up, side),
        ]
        if self.roof == "ridge":
            panels += self._ridge_roof(rng, along, back, up)
        elif self.roof == "gable":
            panels += self._gable_roof(rng, along, back, up)
        return panels + self._chimneys(rng, along, back)

    def _ridge_roof(self, rng: np.random.Generator, along: Array, back: Array, up: Array) -> list[Panel]:
        slope = back / 2 + _UP * self.rise_m
        overhang = -back / max(self.depth_m, 1e-6) * 0.25 - _UP * 0.1
        picture = facades.roof(rng, self.width_m, float(np.linalg.norm(slope)), self.style)
        panels = [self._textured(self.left + up + overhang, along, slope - overhang, picture)]
        for start, edge in ((self.left + back, -back), (self.right, back)):
            triangle = facades.wall(rng, self.depth_m, self.rise_m, self.style)
            cut = facades.gable(facades.lit_by(triangle, self._gain(edge, _UP)))
            panels.append(self._panel(start + up, edge, _UP * self.rise_m, cut))
        return panels

    def _gable_roof(self, rng: np.random.Generator, along: Array, back: Array, up: Array) -> list[Panel]:
        triangle = facades.wall(rng, self.width_m, self.rise_m, self.style)
        cut = facades.gable(facades.lit_by(triangle, self._gain(along, _UP)))
        panels = [self._panel(self.left + up, along, _UP * self.rise_m, cut)]
        picture = facades.roof(rng, self.depth_m, float(np.hypot(self.width_m / 2, self.rise_m)), self.style)
        panels.append(self._textured(self.left + back + up, -back, along / 2 + _UP * self.rise_m, picture))
        panels.append(self._textured(self.right + up, back, -along / 2 + _UP * self.rise_m, picture))
        return panels

    def _chimneys(self, rng: np.random.Generator, along: Array, back: Array) -> list[Panel]:
        panels = []
        unit, inward = along / max(self.width_m, 1e-6), back / max(self.depth_m, 1e-6)
        for index in range(self.chimneys):
            share = 0.05 if index == 0 else 0.9
            foot = self.left + along * share + back * 0.42 + _UP * (self.height_m + self.rise_m * 0.6)
            wide, deep, up = unit * rng.uniform(0.5, 1.1), inward * 0.6, _UP * rng.uniform(1.3, 2.4)
            picture = facades.wall(rng, 1.0, 1.8, self.style)
            for origin, right in ((foot, wide), (foot + deep, -deep), (foot + wide, deep)):
                panels.append(self._textured(origin, right, up, picture))
        return panels


@dataclass(frozen=True)
class StreetKind:
    """What sort of houses stand along a stretch."""

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
    for start, end in zip(edges[:-1], edges[1:]):
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
