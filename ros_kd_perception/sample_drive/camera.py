"""Pinhole cameras on a car: their mounting, their projection, and their CameraInfo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Rows are the optical axes (x right, y down, z forward; REP 103) in the car's axes (x forward, y left, z up).
_OPTICAL_FROM_CAR = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


def rotation_z(angle_rad: float) -> Array:
    """Return the rotation about the up axis, counter-clockwise seen from above, float64 (3, 3)."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_y(angle_rad: float) -> Array:
    """Return the rotation about the left axis, positive nose down, float64 (3, 3)."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rotation_x(angle_rad: float) -> Array:
    """Return the rotation about the forward axis, positive right side down, float64 (3, 3)."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def cross(a: Array, b: Array) -> Array:
    """Return the cross product of two vectors (3,); several times faster than numpy's on single vectors."""
    ax, ay, az = a.tolist()
    bx, by, bz = b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def unit(vector: Array) -> Array:
    """Return a vector (3,) scaled to length 1; a zero vector stays zero."""
    x, y, z = vector.tolist()
    return np.asarray(vector / max(math.sqrt(x * x + y * y + z * z), 1e-9))


@dataclass(frozen=True)
class CarPose:
    """Pose of the car that carries the cameras: a point on the ground below its rear axle, and its attitude."""

    x_m: float
    y_m: float
    heading_rad: float
    pitch_rad: float = 0.0
    roll_rad: float = 0.0


@dataclass(frozen=True)
class CameraPose:
    """An optical frame in the world: `position` float64 (3,) metres, `rotation` float64 (3, 3) world to optical."""

    position: Array
    rotation: Array

    def to_camera(self, points: Array) -> Array:
        """Take world points (n, 3) to the optical frame (n, 3), metres."""
        return np.asarray((points - self.position) @ self.rotation.T)


@dataclass(frozen=True)
class CameraModel:
    """An undistorted pinhole camera mounted on the car.

    The mounting is given in the car's axes (x forward, y left, z up, REP 103): `yaw_rad` is positive to the left,
    `pitch_rad` positive nose down, `roll_rad` positive right side down.
    """

    name: str
    width_px: int = 1280
    height_px: int = 720
    focal_px: float = 900.0
    forward_m: float = 1.6
    left_m: float = 0.0
    height_m: float = 1.45
    yaw_rad: float = 0.0
    pitch_rad: float = 0.03
    roll_rad: float = 0.0
    centre_x_offset_px: float = 0.0
    centre_y_offset_px: float = 0.0

    def __post_init__(self) -> None:
        if not (16 <= self.width_px <= 8192 and 16 <= self.height_px <= 8192):
            size = f"{self.width_px}x{self.height_px}"
            raise ValueError(f"camera {self.name}: expected a size of 16..8192 px, got {size}")
        if not (self.focal_px > 0.0 and 0.1 <= self.height_m <= 10.0):
            raise ValueError(f"camera {self.name}: expected a focal length above 0 px and a height of 0.1..10 m")

    @property
    def frame_id(self) -> str:
        """Name of the optical frame (REP 103)."""
        return f"{self.name}_optical_frame"

    @cached_property
    def intrinsic_matrix(self) -> Array:
        """K, float64 (3, 3), pixels; pixel centres at whole numbers."""
        centre_x = (self.width_px - 1) / 2 + self.centre_x_offset_px
        centre_y = (self.height_px - 1) / 2 + self.centre_y_offset_px
        return np.array([[self.focal_px, 0.0, centre_x], [0.0, self.focal_px, centre_y], [0.0, 0.0, 1.0]])

    @property
    def projection_matrix(self) -> Array:
        """P = [K | 0], float64 (3, 4): a monocular, rectified camera."""
        return np.hstack([self.intrinsic_matrix, np.zeros((3, 1))])

    @property
    def distortion(self) -> Array:
        """Plumb-bob coefficients, float64 (5,): all zero."""
        return np.zeros(5)

    def pose(self, car: CarPose) -> CameraPose:
        """Return the optical frame in the world for a pose of the car."""
        car_to_world = rotation_z(car.heading_rad) @ rotation_y(car.pitch_rad) @ rotation_x(car.roll_rad)
        mount = rotation_z(self.yaw_rad) @ rotation_y(self.pitch_rad) @ rotation_x(self.roll_rad)
        offset = car_to_world @ np.array([self.forward_m, self.left_m, self.height_m])
        position = np.array([car.x_m, car.y_m, 0.0]) + offset
        return CameraPose(position, _OPTICAL_FROM_CAR @ (car_to_world @ mount).T)

    def project(self, points_camera: Array) -> Array:
        """Project points (n, 3) of the optical frame, all with z above 0, to pixels (n, 2)."""
        matrix = self.intrinsic_matrix
        scaled = points_camera[:, :2] / points_camera[:, 2:3] * self.focal_px
        return np.asarray(scaled + matrix[:2, 2])


def default_cameras(width_px: int = 1280, height_px: int = 720) -> tuple[CameraModel, ...]:
    """Return the front, left and right cameras of the sample car, scaled to the requested size."""
    scale = width_px / 1280.0
    return (
        CameraModel("front", width_px, height_px, 880.0 * scale, 1.6, 0.0, 1.45, 0.0, 0.03, 0.0),
        CameraModel("left", width_px, height_px, 660.0 * scale, 1.9, 0.75, 1.25, 1.05, 0.05, 0.01),
        CameraModel("right", width_px, height_px, 660.0 * scale, 1.9, -0.75, 1.25, -1.05, 0.05, -0.01),
    )


def random_camera(rng: np.random.Generator, width_px: int, height_px: int) -> CameraModel:
    """Draw a plausible camera for a training sample: mostly looking ahead, sometimes to a side."""
    looks_ahead = rng.random() < 0.82
    yaw_rad = rng.normal(0.0, 0.07) if looks_ahead else rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.25)
    return CameraModel(
        name="sample",
        width_px=width_px,
        height_px=height_px,
        focal_px=float(width_px * np.exp(rng.uniform(np.log(0.5), np.log(1.1)))),
        forward_m=float(rng.uniform(0.8, 2.2)),
        left_m=float(rng.uniform(-0.5, 0.5)),
        height_m=float(np.clip(rng.normal(1.4, 0.2), 1.0, 2.4)),
        yaw_rad=float(yaw_rad),
        pitch_rad=float(rng.normal(0.02, 0.035)),
        roll_rad=float(rng.normal(0.0, 0.012)),
    )


def camera_named(cameras: Sequence[CameraModel], name: str) -> CameraModel:
    """Return the camera with a name, or raise KeyError with the existing names."""
    for camera in cameras:
        if camera.name == name:
            return camera
    raise KeyError(f"no camera named {name!r}: this drive has {', '.join(c.name for c in cameras)}")
