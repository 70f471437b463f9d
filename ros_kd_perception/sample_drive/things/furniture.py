"""Objects on a pavement: lamp posts, bollards, signs, traffic lights, bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive.camera import Array, unit
from ros_kd_perception.sample_drive.canvas.canvas import Color, Face, facing_polygon
from ros_kd_perception.sample_drive.canvas.shapes import Light, box, disc, limb, post, scaled

_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Pole:
    """An upright pole; with `arm_m` other than 0 it carries a lamp towards `towards` (unit, horizontal)."""

    position: Array
    height_m: float
    radius_m: float
    color_bgr: Color
    towards: Array
    arm_m: float = 0.0
    stripes: bool = False

    def faces(self, light: Light, eye: Array) -> list[Face]:
        """Return its visible faces."""
        towards_eye = eye - self.position
        towards_eye[2] = 0
        gain = light.gain(unit(towards_eye))
        color = scaled(self.color_bgr, gain)
        outline = post(self.position, self.height_m, self.radius_m, self.radius_m * 0.7, eye)
        faces = [Face(outline, color)]
        lit_side = outline.copy()
        lit_side[[1, 2]] = outline[[1, 2]] * 0.4 + outline[[0, 3]] * 0.6
        faces.append(Face(lit_side, scaled(color, 1.25)))
        if self.height_m > 3.0:
            faces.append(Face(post(self.position, 1.2, self.radius_m * 1.5, self.radius_m * 1.4, eye), color))
        if self.stripes:
            for level in range(0, int(self.height_m / 0.5), 2):
                foot = self.position + _UP * (level * 0.5)
                faces.append(Face(post(foot, 0.5, self.radius_m, self.radius_m, eye), scaled((225, 228, 228), gain)))
        if self.arm_m:
            top = self.position + _UP * (self.height_m - 0.05)
            end = top + self.towards * self.arm_m + _UP * 0.25
            faces.append(Face(limb(top, end, self.radius_m * 0.6, self.radius_m * 0.5, eye), color))
            lamp = (190.0, 235.0, 255.0) if light.lamps_on else scaled((120, 122, 124), gain)
            faces.append(Face(limb(end, end + self.towards * 0.55, 0.09, 0.11, eye), lamp))
        return faces


@dataclass(frozen=True)
class Sign:
    """A plate, traffic light or globe on a pole; `facing` is the unit normal of its front."""

    position: Array
    facing: Array
    kind: str
    size_m: float
    color_bgr: Color
    phase_s: float = 0.0

    def faces(self, light: Light, eye: Array, time_s: float) -> list[Face]:
        """Return its visible faces: grey from behind."""
        gain = light.gain(self.facing)
        if self.kind == "globe":
            return [Face(disc(self.position, self.size_m, eye, 14), scaled((40, 170, 245), max(gain, 0.8)))]
        seen_from_front = float((eye - self.position) @ self.facing) > 0
        if self.kind == "light":
            return self._traffic_light(light, eye, time_s, seen_from_front)
        outline = facing_polygon(self.position, self.facing, _outline(self.kind, self.size_m))
        if not seen_from_front:
            return [Face(outline, scaled((112, 114, 116), light.gain(-self.facing)))]
        return [Face(self._at(points), scaled(color, gain)) for points, color in self._paint()]

    def _at(self, outline: list[tuple[float, float]]) -> Array:
        return facing_polygon(self.position + self.facing * 0.01, self.facing, outline)

    def _paint(self) -> list[tuple[list[tuple[float, float]], Color]]:
        white, red, black, size = (222.0, 225.0, 226.0), (40.0, 30.0, 190.0), (30.0, 30.0, 30.0), self.size_m
        bar = [
            (-size * 0.6, -size * 0.18),
            (size * 0.6, -size * 0.18),
            (size * 0.6, size * 0.18),
            (-size * 0.6, size * 0.18),
        ]
        stem = [
            (-size * 0.1, -size * 0.45),
            (size * 0.1, -size * 0.45),
            (size * 0.1, size * 0.45),
            (-size * 0.1, size * 0.45),
        ]
        if self.kind == "round":
            layers = [(_outline("round", size), self.color_bgr)]
            if self.color_bgr[2] > self.color_bgr[0] and self.phase_s < 0.5:
                return [*layers, (bar, white)]
            if self.color_bgr[2] > self.color_bgr[0]:
                return [*layers, (_outline("round", size * 0.75), white), (stem, black)]
            return [*layers, (stem, white)]
        if self.kind == "triangle":
            return [(_outline("triangle", size), red), (_outline("triangle", size * 0.68), white),
                    ([(x * 0.7, y * 0.7 - size * 0.1) for x, y in stem], black)]  # fmt: skip
        layers = [(_outline(self.kind, size), white), (_outline(self.kind, size * 0.93), self.color_bgr)]
        ink = white if sum(self.color_bgr) < 400 else black
        height = 0.3 if self.kind == "plate" else 0.75 if self.kind == "board" else 1.2
        rng = np.random.default_rng(int(self.phase_s * 1e6))
        for row in np.linspace(-0.55, 0.55, 1 if self.kind == "plate" else 3):
            left, right = sorted(rng.uniform(-0.85, 0.85, 2))
            y, half = row * height * size, 0.12 * height * size
            layers.append(
                (
                    [
                        (left * size, y - half),
                        (right * size, y - half),
                        (right * size, y + half),
                        (left * size, y + half),
                    ],
                    ink,
                )
            )
        return layers

    def _traffic_light(self, light: Light, eye: Array, time_s: float, seen_from_front: bool) -> list[Face]:
        size = self.size_m
        board = facing_polygon(
            self.position,
            self.facing,
            [
                (-0.3 * size, -0.62 * size),
                (0.3 * size, -0.62 * size),
                (0.3 * size, 0.62 * size),
                (-0.3 * size, 0.62 * size),
            ],
        )
        case = box(self.position, (0.26 * size, 0.26 * size, 0.95 * size), (26, 26, 26), light, eye)
        faces = [Face(board, scaled((24, 24, 24), 0.6 + light.gain(self.facing) * 0.5)), *case]
        if not seen_from_front:
            return faces
        cycle = (time_s + self.phase_s) % 24.0
        lit = 2 if cycle < 11 else 1 if cycle < 14 else 0
        colors = ((40.0, 40.0, 250.0), (30.0, 170.0, 255.0), (120.0, 235.0, 60.0))
        for index, color in enumerate(colors):
            centre = self.position + self.facing * 0.16 * size + _UP * (0.3 - 0.3 * index) * size
            ring = facing_polygon(centre, self.facing, _outline("round", 0.105 * size))
            faces.append(Face(ring, color if index == lit else scaled(color, 0.16)))
        return faces


def _outline(kind: str, size_m: float) -> list[tuple[float, float]]:
    if kind == "round":
        return [(size_m * np.cos(a), size_m * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 18, endpoint=False)]
    if kind == "triangle":
        return [(-size_m, -size_m * 0.75), (size_m, -size_m * 0.75), (0.0, size_m)]
    height = {"plate": 0.3, "board": 0.75, "banner": 1.4}[kind] * size_m
    return [(-size_m, -height), (size_m, -height), (size_m, height), (-size_m, height)]


@dataclass(frozen=True)
class Bin:
    """A litter bin. It belongs to no class of the student, so its pixels are unlabeled."""

    position: Array
    height_m: float
    radius_m: float
    color_bgr: Color

    def faces(self, light: Light, eye: Array) -> list[Face]:
        """Return its visible faces."""
        towards = (eye - self.position) * np.array([1.0, 1.0, 0.0])
        gain = light.gain(unit(towards))
        body = post(self.position, self.height_m, self.radius_m, self.radius_m * 1.05, eye)
        lid = post(
            self.position + _UP * self.height_m * 0.82, self.height_m * 0.2, self.radius_m * 1.1, self.radius_m, eye
        )
        return [Face(body, scaled(self.color_bgr, gain)), Face(lid, scaled(self.color_bgr, gain * 0.6))]
