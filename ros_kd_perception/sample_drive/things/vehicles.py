"""Cars, vans, lorries and buses as a few dozen shaded faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive.camera import Array, cross, rotation_z, unit
from ros_kd_perception.sample_drive.canvas.canvas import Color, Face
from ros_kd_perception.sample_drive.canvas.shapes import Light, scaled, wheel_disc

PAINTS: tuple[Color, ...] = (
    (150, 155, 158), (120, 124, 128), (40, 40, 42), (28, 28, 30), (215, 218, 220), (110, 50, 30), (90, 60, 40),
    (30, 28, 130), (40, 35, 90), (60, 80, 40), (150, 110, 60), (60, 120, 150), (70, 62, 60), (170, 180, 186),
)  # fmt: skip


@dataclass(frozen=True)
class CarShape:
    """Proportions of a car, metres; x forward from its middle, z up from the road.

    `hood_x` is where bonnet and windscreen meet, `boot_x` where rear window and boot lid meet.
    """

    length_m: float
    width_m: float
    height_m: float
    belt_m: float
    hood_m: float
    boot_m: float
    hood_x: float
    roof_front_x: float
    roof_rear_x: float
    boot_x: float
    roof_inset_m: float
    clearance_m: float = 0.22
    wheel_m: float = 0.31
    side_windows: int = 2
    bus_windows: bool = False


SHAPES: dict[str, CarShape] = {
    "saloon": CarShape(4.5, 1.78, 1.43, 0.92, 0.86, 0.95, 0.75, 0.15, -1.05, -1.6, 0.24),
    "hatchback": CarShape(3.9, 1.7, 1.48, 0.93, 0.88, 0.95, 0.85, 0.25, -1.45, -1.85, 0.2),
    "estate": CarShape(4.6, 1.78, 1.47, 0.92, 0.87, 0.95, 0.8, 0.2, -1.9, -2.2, 0.2, side_windows=3),
    "suv": CarShape(4.5, 1.86, 1.75, 1.08, 1.02, 1.08, 0.85, 0.3, -1.85, -2.15, 0.18, 0.3, 0.36, 3),
    "van": CarShape(5.0, 1.95, 2.2, 1.2, 1.1, 1.2, 1.75, 1.05, -2.42, -2.48, 0.12, 0.25, 0.33, 1),
    "lorry": CarShape(7.0, 2.3, 3.1, 1.5, 1.45, 1.5, 3.4, 3.3, -3.4, -3.45, 0.05, 0.45, 0.45, 1),
    "bus": CarShape(10.5, 2.5, 3.0, 1.15, 1.15, 1.15, 5.22, 5.15, -5.2, -5.23, 0.05, 0.3, 0.48, 7, True),
    "double_decker": CarShape(10.5, 2.5, 4.3, 1.15, 1.15, 1.15, 5.22, 5.15, -5.2, -5.23, 0.05, 0.3, 0.48, 7, True),
}
_KINDS = ("saloon", "hatchback", "estate", "suv", "van", "lorry", "bus", "double_decker")
_SHARES = (0.2, 0.36, 0.14, 0.11, 0.12, 0.025, 0.025, 0.02)


@dataclass(frozen=True)
class Car:
    """The appearance of one vehicle."""

    shape: CarShape
    paint_bgr: Color
    trim_bgr: Color
    glass_bgr: Color
    gloss: float

    @classmethod
    def draw(cls, rng: np.random.Generator, is_parked: bool = False) -> Car:
        """Choose a vehicle; buses and lorries do not park."""
        kinds = 5 if is_parked else len(_KINDS)
        kind = str(rng.choice(_KINDS[:kinds], p=np.array(_SHARES[:kinds]) / sum(_SHARES[:kinds])))
        paint = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.75, 1.15)
        if kind in ("van", "lorry") and rng.random() < 0.6:
            paint = np.array([215.0, 218.0, 218.0]) * rng.uniform(0.8, 1.1)
        glass = np.array([48.0, 44.0, 38.0]) * rng.uniform(0.6, 1.5)
        shape = SHAPES[kind]
        trim = scaled([34, 34, 34], rng.uniform(0.6, 1.4))
        return cls(shape, scaled(paint, 1.0), trim, scaled(glass, 1.0), float(rng.uniform(0.2, 1.0)))

    def faces(self, position: Array, heading_rad: float, light: Light, eye: Array, brakes: bool = False) -> list[Face]:
        """Return the visible faces, far ones first, at a place (float64 (3,), on the ground) and heading."""
        turn = rotation_z(heading_rad)
        eye_here = (eye - position) @ turn
        light_here = Light(light.to_sun @ turn, light.sun_gain, light.sky_gain, light.lamps_on)
        model = _CarModel(self, light_here, eye_here)
        model.build(brakes)
        return [Face(face.points @ turn.T + position, face.color_bgr) for face in model.faces]


class _CarModel:
    """Collects the faces of one car in its own axes."""

    def __init__(self, car: Car, light: Light, eye: Array) -> None:
        self.car, self.light, self.eye = car, light, eye
        self.faces: list[Face] = []
        self.is_near = float(np.linalg.norm(eye)) < 30.0

    def build(self, brakes: bool) -> None:
        self._underside()
        self._body()
        self._wheels()
        self._ends(brakes)
        self._cabin()

    def _add(self, points: Array, color: Color, lift: float = 0.0) -> bool:
        """Add a polygon if its front (corners counter-clockwise seen from outside) is towards the eye."""
        normal = unit(cross(points[1] - points[0], points[-1] - points[0]))
        if float((self.eye - points[0]) @ normal) <= 0:
            return False
        shade = self.light.shade(color, normal)
        mirror = self.car.gloss * 46 * max(float(normal[2]), 0.0) * self.light.sky_gain + lift
        self.faces.append(
            Face(points, (min(shade[0] + mirror, 255), min(shade[1] + mirror, 255), min(shade[2] + mirror, 255)))
        )
        return True

    def _ring(self, z: float, inset: float) -> Array:
        """Return the body's outline at a height, float64 (12, 3), counter-clockwise from the front right.

        The corners are cut. The cabin begins and ends at points 3, 4, 9 and 10.
        """
        shape = self.car.shape
        x, y = shape.length_m / 2 - inset, shape.width_m / 2 - inset
        cut = min(0.28, shape.length_m * 0.06)
        hood = min(shape.hood_x, x - cut - 0.01)
        boot = max(shape.boot_x, -x + cut + 0.01)
        left = [
            [x, y - cut * 1.6, z],
            [x - cut, y, z],
            [hood, y, z],
            [boot, y, z],
            [-x + cut, y, z],
            [-x, y - cut * 1.3, z],
        ]
        return np.array([[x, -y + cut * 1.6, z], *left, *([a, -b, c] for a, b, c in left[:0:-1])])

    def _upper_ring(self) -> Array:
        shape = self.car.shape
        ring = self._ring(shape.belt_m, 0.07)
        ring[[0, 1, 2, 11], 2] = shape.hood_m - 0.12
        ring[[5, 6, 7, 8], 2] = shape.boot_m - 0.04
        return ring

    def _underside(self) -> None:
        ring = self._ring(0.12, 0.22)
        top = self._ring(self.car.shape.clearance_m + 0.05, 0.1)
        for i in range(12):
            j = (i + 1) % 12
            self._add(np.array([ring[i], ring[j], top[j], top[i]]), (14, 14, 14))

    def _body(self) -> None:
        shape, paint = self.car.shape, self.car.paint_bgr
        rings = [
            self._ring(shape.clearance_m, 0.06),
            self._ring(shape.clearance_m + 0.16, 0.02),
            self._ring(shape.clearance_m + 0.62 * (shape.belt_m - shape.clearance_m), 0.0),
            self._upper_ring(),
        ]
        colors = (self.car.trim_bgr if self.car.gloss < 0.6 else scaled(paint, 0.75), scaled(paint, 0.88), paint)
        for low, high, color in zip(rings[:-1], rings[1:], colors, strict=True):
            for i in range(12):
                j = (i + 1) % 12
                self._add(np.array([low[i], low[j], high[j], high[i]]), color)
        top = rings[-1]
        self._add(top[[10, 11, 0, 1, 2, 3]], paint)
        self._add(top[[4, 5, 6, 7, 8, 9]], paint)
        if self.is_near and not shape.bus_windows:
            self._door_lines()

    def _door_lines(self) -> None:
        shape = self.car.shape
        for side in (1.0, -1.0):
            y = side * (shape.width_m / 2 + 0.002)
            for x in (shape.hood_x - 0.35, -0.25, -1.15):
                line = np.array(
                    [
                        [x, y, 0.35],
                        [x + 0.015 * side, y, 0.35],
                        [x + 0.015 * side, y, shape.belt_m - 0.05],
                        [x, y, shape.belt_m - 0.05],
                    ]
                )
                self._add(line[::-1], scaled(self.car.paint_bgr, 0.5))

    def _wheels(self) -> None:
        shape = self.car.shape
        x = shape.length_m / 2 - shape.wheel_m - 0.42 * min(shape.length_m / 4.5, 1.6)
        for side in (1.0, -1.0):
            y = side * (shape.width_m / 2 + 0.005)
            if (self.eye[1] - y) * side <= 0:
                continue
            axle = np.array([0.0, side, 0.0])
            for wheel_x in (x, -x):
                centre = np.array([wheel_x, y, shape.wheel_m])
                arch = wheel_disc(centre + np.array([0, 0, 0.03]), axle, shape.wheel_m * 1.16)
                self.faces.append(Face(arch, (12, 12, 12)))
                self.faces.append(Face(wheel_disc(centre, axle, shape.wheel_m), (24, 24, 25)))
                rim = scaled((150, 152, 154), 0.5 + 0.4 * self.car.gloss * self.light.gain(axle))
                self.faces.append(Face(wheel_disc(centre, axle, shape.wheel_m * 0.6), rim))
                if self.is_near:
                    self.faces.append(Face(wheel_disc(centre, axle, shape.wheel_m * 0.2), (50, 50, 50)))

    def _patch(
        self, end: float, y: tuple[float, float], z: tuple[float, float], color: Color, glow: bool = False
    ) -> None:
        x = end * (self.car.shape.length_m / 2 + 0.005)
        if (self.eye[0] - x) * end <= 0:
            return
        points = np.array([[x, y[0], z[0]], [x, y[1], z[0]], [x, y[1], z[1]], [x, y[0], z[1]]])
        shade = color if glow else self.light.shade(color, np.array([end, 0.0, 0.0]))
        self.faces.append(Face(points, shade))

    def _ends(self, brakes: bool) -> None:
        shape, lamps = self.car.shape, self.light.lamps_on
        half = shape.width_m / 2
        low = shape.clearance_m + 0.12
        bumper = low + 0.24
        self._patch(1.0, (-half * 0.7, half * 0.7), (low + 0.02, bumper - 0.08), self.car.trim_bgr)
        self._patch(1.0, (-half * 0.45, half * 0.45), (bumper + 0.03, bumper + 0.15), (25, 25, 25))
        self._patch(1.0, (-0.26, 0.26), (bumper - 0.06, bumper + 0.04), (215, 222, 224))
        self._patch(-1.0, (-half * 0.7, half * 0.7), (low, low + 0.1), self.car.trim_bgr)
        self._patch(-1.0, (-0.26, 0.26), (bumper + 0.08, bumper + 0.19), (60, 190, 215))
        head = (235.0, 250.0, 255.0) if lamps else (200.0, 205.0, 205.0)
        tail = (60.0, 60.0, 250.0) if brakes else (40.0, 30.0, 190.0) if lamps else (35.0, 30.0, 130.0)
        for side in (1.0, -1.0):
            outer, inner = side * half * 0.74, side * half * 0.44
            self._patch(1.0, (inner, outer), (bumper + 0.06, bumper + 0.19), head, lamps)
            self._patch(-1.0, (inner * 1.15, outer), (bumper + 0.1, bumper + 0.3), tail, lamps or brakes)

    def _cabin(self) -> None:
        """Add the cabin: pillars and roof in the car's colour, glass in each side."""
        shape, paint = self.car.shape, self.car.paint_bgr
        low_y, high_y = shape.width_m / 2 - 0.09, shape.width_m / 2 - shape.roof_inset_m
        z0, z1 = shape.belt_m, shape.height_m
        low = np.array(
            [
                [shape.hood_x, -low_y, z0],
                [shape.hood_x, low_y, z0],
                [shape.boot_x, low_y, z0],
                [shape.boot_x, -low_y, z0],
            ]
        )
        high = np.array(
            [[shape.roof_front_x, -high_y, z1 - 0.03], [shape.roof_front_x, high_y, z1 - 0.03],
             [shape.roof_rear_x, high_y, z1 - 0.03], [shape.roof_rear_x, -high_y, z1 - 0.03]]
        )  # fmt: skip
        self._add(self._upper_ring()[[3, 4, 9, 10]], scaled(paint, 0.9))
        roof = high * np.array([0.94, 0.86, 1.0]) + np.array([0.0, 0.0, 0.03])
        for i in range(4):
            j = (i + 1) % 4
            face = np.array([low[i], low[j], high[j], high[i]])
            if self._add(face, scaled(paint, 0.92)):
                self._glass(face, is_side=i in (1, 3), is_rear=i == 2)
            self._add(np.array([high[i], high[j], roof[j], roof[i]]), paint)
        self._add(roof, paint)

    def _glass(self, face: Array, is_side: bool, is_rear: bool) -> None:
        shape = self.car.shape
        reflect = 26.0 * self.light.sky_gain * self.car.gloss
        if not is_side:
            if is_rear and shape.height_m > 2.0 and not shape.bus_windows:
                return
            top = 0.94 if shape.height_m < 2.6 else 0.55
            self._pane(face, (0.07, 0.93), (0.06, top), reflect * (1.3 if not is_rear else 1.0))
            return
        rows: tuple[tuple[float, float], ...] = ((0.08, 0.9),)
        if shape.bus_windows:
            rows = ((0.1, 0.75),) if shape.height_m < 4 else ((0.03, 0.3), (0.52, 0.8))
        start, end = 0.06, 0.94
        if shape.side_windows == 1:  # a van or lorry: glass beside the driver only
            left = bool(face[0][1] > 0)
            start, end = (0.05, 0.22) if left else (0.78, 0.95)
            rows = ((0.05, 0.62),) if shape.height_m > 2.6 else ((0.08, 0.75),)
        width = (end - start) / shape.side_windows
        for bottom, top in rows:
            for index in range(shape.side_windows):
                x = start + index * width
                self._pane(face, (x + 0.012, x + width - 0.012), (bottom, top), reflect)

    def _pane(self, face: Array, across: tuple[float, float], up: tuple[float, float], reflect: float) -> None:
        def at(u: float, v: float) -> Array:
            low, high = face[0] + (face[1] - face[0]) * u, face[3] + (face[2] - face[3]) * u
            return np.asarray(low + (high - low) * v)

        points = np.array([at(across[0], up[0]), at(across[1], up[0]), at(across[1], up[1]), at(across[0], up[1])])
        self._add(points, self.car.glass_bgr, reflect)
        if not self.is_near:
            return
        middle = (up[0] + up[1]) / 2
        upper = np.array(
            [at(across[0], middle), at(across[1], middle + 0.1), at(across[1], up[1]), at(across[0], up[1])]
        )
        self._add(upper, self.car.glass_bgr, reflect * 1.9)
