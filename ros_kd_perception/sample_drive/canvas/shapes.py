"""Small solid shapes as flat faces: limbs, discs, boxes, shaded by one sun and an even sky."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive.camera import Array, cross, unit
from ros_kd_perception.sample_drive.canvas.canvas import Color, Face

_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Light:
    """The light on a scene: unit vector to the sun float64 (3,), and how much comes from sun and sky."""

    to_sun: Array
    sun_gain: float
    sky_gain: float
    lamps_on: bool

    def gain(self, normal: Array) -> float:
        """Return the brightness of a white surface with that unit normal, about 0..1.5."""
        up = 0.82 + 0.18 * float(normal[2])
        return self.sky_gain * up + self.sun_gain * max(float(normal @ self.to_sun), 0.0)

    def shade(self, color_bgr: Iterable[float], normal: Array) -> Color:
        """Return a colour as it looks on a surface with that unit normal."""
        return scaled(color_bgr, self.gain(normal))


def scaled(color_bgr: Iterable[float], gain: float) -> Color:
    """Return a colour times a gain, kept within 0..255."""
    blue, green, red = (min(max(value * gain, 0.0), 255.0) for value in color_bgr)
    return blue, green, red


def limb(start: Array, end: Array, start_radius_m: float, end_radius_m: float, eye: Array) -> Array:
    """Return the outline of a tapered rod with round ends as seen from the eye, float64 (8, 3)."""
    axis = unit(end - start)
    across = unit(cross(axis, eye - start))
    a, b = across * start_radius_m, across * end_radius_m
    low, high = axis * start_radius_m * 0.7, axis * end_radius_m * 0.7
    return np.array(
        [start + a, start - low + a * 0.6, start - low - a * 0.6, start - a,
         end - b, end + high - b * 0.6, end + high + b * 0.6, end + b]
    )  # fmt: skip


def post(foot: Array, height_m: float, foot_radius_m: float, top_radius_m: float, eye: Array) -> Array:
    """Return the outline of an upright post with flat ends as seen from the eye, float64 (4, 3)."""
    towards = eye - foot
    across = unit(np.array([-towards[1], towards[0], 0.0]))
    top = foot + _UP * height_m
    a, b = across * foot_radius_m, across * top_radius_m
    return np.array([foot + a, foot - a, top - b, top + b])


def disc(centre: Array, radius_m: float, eye: Array, corners: int = 12, squash: float = 1.0) -> Array:
    """Return a disc turned to the eye, `squash` times as wide as it is high, float64 (corners, 3)."""
    towards = eye - centre
    across = unit(np.array([-towards[1], towards[0], 0.0]))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.asarray(
        centre + np.outer(np.cos(angles) * radius_m * squash, across) + np.outer(np.sin(angles) * radius_m, _UP)
    )


def wheel_disc(centre: Array, axle: Array, radius_m: float, corners: int = 14) -> Array:
    """Return an upright disc whose axle points along a horizontal unit vector, float64 (corners, 3)."""
    forward = np.array([axle[1], -axle[0], 0.0])
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.asarray(centre + radius_m * (np.outer(np.cos(angles), forward) + np.outer(np.sin(angles), _UP)))


def box(
    centre: Array, size: tuple[float, float, float], color: Iterable[float], light: Light, eye: Array
) -> list[Face]:
    """Return the visible faces of an axis-aligned box; `size` is x, y, z in metres, `centre` its middle."""
    half = np.array(size) / 2
    faces = []
    base = tuple(color)
    for axis in range(3):
        for sign in (1.0, -1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            middle = centre + normal * half
            if float((eye - middle) @ normal) <= 0:
                continue
            one, two = np.zeros(3), np.zeros(3)
            one[(axis + 1) % 3], two[(axis + 2) % 3] = half[(axis + 1) % 3], half[(axis + 2) % 3]
            corners = np.array([middle + one + two, middle + one - two, middle - one - two, middle - one + two])
            faces.append(Face(corners, light.shade(base, normal)))
    return faces
