"""Pedestrians and bicyclists: jointed figures that walk and pedal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive.camera import Array, unit
from ros_kd_perception.sample_drive.canvas.canvas import Color, Face
from ros_kd_perception.sample_drive.canvas.shapes import Light, disc, limb, scaled, wheel_disc

SKINS: tuple[Color, ...] = ((140, 165, 205), (120, 150, 200), (90, 120, 170), (60, 85, 130), (45, 60, 90))
COATS: tuple[Color, ...] = (
    (30, 30, 32), (50, 45, 42), (70, 50, 40), (110, 60, 40), (40, 40, 120), (60, 90, 60), (90, 110, 130),
    (170, 170, 175), (60, 60, 62), (40, 90, 140), (130, 90, 110), (190, 195, 200), (50, 180, 200), (40, 110, 220),
)  # fmt: skip
TROUSERS: tuple[Color, ...] = ((30, 28, 28), (80, 58, 42), (60, 50, 46), (95, 110, 120), (50, 50, 50), (110, 80, 60))


@dataclass(frozen=True)
class Person:
    """The appearance of one person."""

    height_m: float
    width: float
    skin_bgr: Color
    hair_bgr: Color
    coat_bgr: Color
    trousers_bgr: Color
    shoes_bgr: Color
    coat_length: float
    has_bag: bool
    has_helmet: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Person:
        """Choose a person; one in ten is a child."""
        height = rng.uniform(1.1, 1.4) if rng.random() < 0.1 else rng.normal(1.71, 0.08)
        return cls(
            height_m=float(height),
            width=float(rng.uniform(0.88, 1.25)),
            skin_bgr=scaled(SKINS[rng.integers(len(SKINS))], 1.0),
            hair_bgr=scaled(((20, 22, 26), (30, 45, 70), (60, 100, 140), (110, 115, 120))[rng.integers(4)], 1.0),
            coat_bgr=scaled(COATS[rng.integers(len(COATS))], rng.uniform(0.7, 1.2)),
            trousers_bgr=scaled(TROUSERS[rng.integers(len(TROUSERS))], rng.uniform(0.7, 1.3)),
            shoes_bgr=scaled((28, 28, 30), rng.uniform(0.5, 2.5)),
            coat_length=float(rng.choice([0.0, 0.08, 0.35], p=[0.55, 0.25, 0.2])),
            has_bag=bool(rng.random() < 0.4),
            has_helmet=bool(rng.random() < 0.6),
        )

    def walking(self, position: Array, heading_rad: float, phase_rad: float, light: Light, eye: Array) -> list[Face]:
        """Return the faces of the person on foot, far limbs first.

        Args:
            position: Place of the feet, float64 (3,).
            heading_rad: Direction of walking.
            phase_rad: Phase of the stride; a standing person has a constant phase near 0.
            light: Light on the scene.
            eye: Position of the camera.
        """
        figure = _Figure(self, position, heading_rad, light, eye)
        scale = self.height_m / 1.72
        swing = 0.42 * np.sin(phase_rad)
        hip, shoulder = figure.at(0.0, 0.0, 0.88 * scale), figure.at(0.02, 0.0, 1.4 * scale)
        for side in figure.far_side_first():
            angle = side * swing
            joint = figure.at(0.0, side * 0.085 * scale, 0.87 * scale)
            knee = figure.at(
                0.42 * np.sin(angle + 0.12) * scale, side * 0.09 * scale, (0.87 - 0.41 * np.cos(angle)) * scale
            )
            lift = 0.1 * max(np.sin(phase_rad * side + 0.9), 0) * scale
            ankle_x = (0.42 * np.sin(angle + 0.12) + 0.4 * np.sin(angle - 0.25 - lift)) * scale
            ankle = figure.at(ankle_x, side * 0.09 * scale, 0.07 * scale + lift)
            figure.limb(joint, knee, 0.088, 0.065, self.trousers_bgr)
            figure.limb(knee, ankle, 0.062, 0.045, self.trousers_bgr)
            figure.limb(ankle, ankle + figure.forward * 0.14 * scale, 0.045, 0.035, self.shoes_bgr)
        arms = figure.far_side_first()
        figure.arm(arms[0], shoulder, -swing * arms[0], scale)
        figure.torso(hip, shoulder, scale)
        figure.arm(arms[1], shoulder, -swing * arms[1], scale)
        if self.has_bag:
            bag = figure.at(-0.16, 0.0, 1.18 * scale)
            figure.limb(bag, bag + np.array([0, 0, -0.28 * scale]), 0.13, 0.12, scaled(self.shoes_bgr, 1.3))
        figure.head(figure.at(0.05, 0.0, 1.6 * scale), scale)
        return figure.faces

    def cycling(self, position: Array, heading_rad: float, phase_rad: float, light: Light, eye: Array) -> list[Face]:
        """Return the faces of the person on a bicycle. The wheels count as filled, as a labeller would label them."""
        figure = _Figure(self, position, heading_rad, light, eye)
        figure.bicycle(self.shoes_bgr)
        hip, shoulder = figure.at(-0.22, 0.0, 0.98), figure.at(0.16, 0.0, 1.42)
        for side in figure.far_side_first():
            angle = phase_rad + (np.pi if side > 0 else 0.0)
            foot = figure.at(0.17 * np.cos(angle), side * 0.1, 0.3 + 0.17 * np.sin(angle))
            knee = (hip + foot) / 2 + figure.forward * 0.24 + np.array([0.0, 0.0, 0.1])
            figure.limb(hip, knee, 0.095, 0.07, self.trousers_bgr)
            figure.limb(knee, foot, 0.065, 0.05, self.trousers_bgr)
            figure.limb(foot, foot + figure.forward * 0.13, 0.045, 0.04, self.shoes_bgr)
        figure.torso(hip, shoulder, 1.0)
        for side in figure.far_side_first():
            start = shoulder + figure.left * side * 0.19
            hand = figure.at(0.5, side * 0.25, 1.02)
            elbow = (start + hand) / 2 - np.array([0.0, 0.0, 0.08])
            figure.limb(start, elbow, 0.06, 0.05, self.coat_bgr)
            figure.limb(elbow, hand, 0.05, 0.04, self.coat_bgr)
        figure.head(figure.at(0.26, 0.0, 1.62), 1.0, self.has_helmet)
        return figure.faces


class _Figure:
    """Collects the faces of one figure in world coordinates."""

    def __init__(self, person: Person, position: Array, heading_rad: float, light: Light, eye: Array) -> None:
        self.person, self.position, self.light, self.eye = person, position, light, eye
        self.forward = np.array([np.cos(heading_rad), np.sin(heading_rad), 0.0])
        self.left = np.array([-self.forward[1], self.forward[0], 0.0])
        self.faces: list[Face] = []
        towards = eye - position
        towards[2] = 0.0
        self.is_far = float(np.linalg.norm(towards)) > 35.0
        self.normal = unit(towards)
        self.gain = light.gain(self.normal)

    def at(self, forward_m: float, left_m: float, up_m: float) -> Array:
        return np.asarray(self.position + self.forward * forward_m + self.left * left_m + np.array([0.0, 0.0, up_m]))

    def far_side_first(self) -> tuple[float, float]:
        return (-1.0, 1.0) if float((self.eye - self.position) @ self.left) > 0 else (1.0, -1.0)

    def limb(self, start: Array, end: Array, start_m: float, end_m: float, color: Color) -> None:
        """Add a limb and a darker half on the side away from the light."""
        width = self.person.width
        outline = limb(start, end, start_m * width, end_m * width, self.eye)
        self.faces.append(Face(outline, scaled(color, self.gain * 0.85)))
        if self.is_far:
            return
        shift = (outline[0] - outline[3]) * 0.22
        self.faces.append(Face(limb(start + shift, end + shift, start_m * width * 0.5, end_m * width * 0.5, self.eye),
                               scaled(color, self.gain * 1.12)))  # fmt: skip

    def arm(self, side: float, shoulder: Array, swing: float, scale: float) -> None:
        start = shoulder + self.left * side * 0.2 * scale * self.person.width
        elbow = start + self.forward * 0.28 * np.sin(swing) * scale - np.array([0, 0, 0.28 * scale])
        hand = elbow + self.forward * (0.1 + 0.25 * np.sin(swing)) * scale - np.array([0, 0, 0.23 * scale])
        self.limb(start, elbow, 0.06 * scale, 0.052 * scale, self.person.coat_bgr)
        self.limb(elbow, hand, 0.05 * scale, 0.04 * scale, self.person.coat_bgr)
        self.faces.append(Face(disc(hand, 0.05 * scale, self.eye, 6), scaled(self.person.skin_bgr, self.gain)))

    def torso(self, hip: Array, shoulder: Array, scale: float) -> None:
        person = self.person
        turned = abs(float(self.normal @ self.forward))
        half = (0.14 + 0.075 * turned) * scale * person.width
        across = np.array([-self.normal[1], self.normal[0], 0.0])
        up = (shoulder - hip) / max(float(np.linalg.norm(shoulder - hip)), 1e-9)
        low = hip - up * person.coat_length * scale
        outline = np.array(
            [low + across * half * 0.95, hip + across * half * 0.85, shoulder + across * half,
             shoulder + up * 0.05 * scale + across * half * 0.6, shoulder + up * 0.08 * scale,
             shoulder + up * 0.05 * scale - across * half * 0.6, shoulder - across * half,
             hip - across * half * 0.85, low - across * half * 0.95]
        )  # fmt: skip
        self.faces.append(Face(outline, scaled(person.coat_bgr, self.gain * 0.92)))
        light_side = outline.copy()
        light_side[5:] = outline[[4, 3, 1, 0]] * 0.4 + outline[[5, 6, 7, 8]] * 0.6
        self.faces.append(Face(light_side, scaled(person.coat_bgr, self.gain * 1.1)))

    def head(self, centre: Array, scale: float, has_helmet: bool = False) -> None:
        person = self.person
        self.limb(centre - np.array([0, 0, 0.2 * scale]), centre, 0.05 * scale, 0.05 * scale, person.skin_bgr)
        self.faces.append(Face(disc(centre, 0.125 * scale, self.eye, 12, 0.8), scaled(person.skin_bgr, self.gain)))
        faces_eye = float(self.normal @ self.forward)
        crown = centre + np.array([0, 0, 0.05 * scale]) - self.forward * 0.03
        color = scaled((190, 195, 200), self.gain) if has_helmet else scaled(person.hair_bgr, self.gain)
        size = 0.13 if has_helmet else (0.1 if faces_eye > 0.3 else 0.125)
        self.faces.append(Face(disc(crown, size * scale, self.eye, 10, 0.85), color))

    def bicycle(self, color: Color) -> None:
        tyre, frame = (26.0, 26.0, 26.0), scaled(color, 1.6 + self.gain)
        for x in (-0.52, 0.52):
            centre = self.at(x, 0.0, 0.34)
            rim, hub = wheel_disc(centre, self.left, 0.34, 20), wheel_disc(centre, self.left, 0.305, 20)
            self.faces.append(Face(rim, None))
            self.faces.append(Face(np.concatenate([rim, rim[:1], hub[:1], hub[::-1]]), tyre))
            # Seen from its edge the disc has no width, but a tyre has.
            self.faces.append(Face(limb(self.at(x, 0, 0.04), self.at(x, 0, 0.64), 0.022, 0.022, self.eye), tyre))
        crank, saddle, head, front = (
            self.at(0, 0, 0.3),
            self.at(-0.2, 0, 0.9),
            self.at(0.36, 0, 0.88),
            self.at(0.52, 0, 0.34),
        )
        for start, end in (
            (crank, saddle),
            (saddle, head),
            (head, crank),
            (head, front),
            (self.at(-0.52, 0, 0.34), crank),
        ):
            self.faces.append(Face(limb(start, end, 0.022, 0.022, self.eye), frame))
        bar = self.at(0.46, 0, 1.02)
        self.faces.append(Face(limb(bar + self.left * 0.26, bar - self.left * 0.26, 0.018, 0.018, self.eye), tyre))
