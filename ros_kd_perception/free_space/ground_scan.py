"""GroundScan: computes how far the ground is free in each direction, like the ranges of a laser scanner.

A beam starts at the origin of a vehicle frame and runs along the ground. In the image it is a line, which is computed
once for a camera. For each frame the class map is read along these lines. The ground is assumed to be a plane;
docs/free_space.md gives the errors on hills and under braking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ros_kd_perception.free_space.calibration import Calibration, Float64Array
from ros_kd_perception.structures import Float32Array, Int32Array, UInt8Array

# The rows are the axes of an optical frame (x right, y down, z forward) in a body frame (x forward, y left, z up), see
# REP 103.
_OPTICAL_FROM_BODY = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
_NEAREST_M = 0.05
# Limits on the samples of one beam and of all beams together, for any image size in a CameraInfo.
_MAX_SAMPLES = 4096
_MAX_SAMPLES_OF_ALL = 1 << 21
MAX_HEIGHT_M = 50.0


@dataclass(frozen=True)
class CameraPose:
    """The pose of a camera in a frame whose z = 0 is the ground.

    Attributes:
        position: X, y and z of the camera in metres.
        optical_from_frame: Rotation matrix, by rows. It turns a direction in the frame into the optical frame.
    """

    position: tuple[float, float, float]
    optical_from_frame: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.position)) or not np.isfinite(self.optical_from_frame).all():
            raise ValueError(f"expected a camera pose of finite numbers, got {self}")
        if not 0.0 < self.position[2] <= MAX_HEIGHT_M:
            raise ValueError(
                f"expected the camera to be above the ground, up to {MAX_HEIGHT_M:g} m, got a height of "
                f"{self.position[2]:g} m; choose a frame whose z = 0 is the ground"
            )

    @classmethod
    def from_mounting(
        cls, x_m: float, y_m: float, height_m: float, roll_deg: float, pitch_deg: float, yaw_deg: float
    ) -> CameraPose:
        """Build the pose from position and angles, like a URDF `rpy` of the camera's body frame (x forward, z up).

        Args:
            x_m: Distance forward of the frame's origin.
            y_m: Distance to the left of the frame's origin.
            height_m: Height above the ground.
            roll_deg: Roll angle, positive with the right side down.
            pitch_deg: Pitch angle, positive with the nose down.
            yaw_deg: Yaw angle, positive to the left.
        """
        angles = (math.radians(yaw_deg), math.radians(pitch_deg), math.radians(roll_deg))
        (sin_z, sin_y, sin_x), (cos_z, cos_y, cos_x) = map(math.sin, angles), map(math.cos, angles)
        yaw = np.array([[cos_z, -sin_z, 0.0], [sin_z, cos_z, 0.0], [0.0, 0.0, 1.0]])
        pitch = np.array([[cos_y, 0.0, sin_y], [0.0, 1.0, 0.0], [-sin_y, 0.0, cos_y]])
        roll = np.array([[1.0, 0.0, 0.0], [0.0, cos_x, -sin_x], [0.0, sin_x, cos_x]])
        return cls((x_m, y_m, height_m), _rows(_OPTICAL_FROM_BODY @ (yaw @ pitch @ roll).T))

    @classmethod
    def from_transform(
        cls, translation: tuple[float, float, float], quaternion_xyzw: tuple[float, float, float, float]
    ) -> CameraPose:
        """Build the pose from a TF transform that takes points from the optical frame to the ground's frame."""
        length = math.sqrt(sum(value * value for value in quaternion_xyzw))
        if not length > 1e-6:
            raise ValueError(f"expected a rotation in the camera's transform, got the quaternion {quaternion_xyzw}")
        x, y, z, w = (value / length for value in quaternion_xyzw)
        frame_from_optical = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        return cls(translation, _rows(frame_from_optical.T))


@dataclass(frozen=True)
class Beams:
    """The beams of a scan: evenly spaced all around, the first one straight back.

    Attributes:
        count: Number of beams.
        range_max_m: Distance up to which free space is followed.
        max_blind_m: Longest blind part of a beam, from the origin to the first point in the image. A beam with a longer
            blind part stays unknown, because that part would be assumed to be free.
    """

    count: int
    range_max_m: float
    max_blind_m: float

    @classmethod
    def from_increment(cls, increment_deg: float, range_max_m: float, max_blind_m: float) -> Beams:
        """Create beams all around, with the spacing closest to `increment_deg` that divides the circle."""
        return cls(max(round(360.0 / increment_deg), 1), range_max_m, max_blind_m)

    @property
    def increment_rad(self) -> float:
        """Angle between neighbouring beams."""
        return 2 * math.pi / self.count

    @property
    def angles_rad(self) -> Float64Array:
        """Angles of the beams, float64 `[count]`, from -pi counter-clockwise. 0 is straight ahead (REP 103)."""
        return np.asarray(-math.pi + self.increment_rad * np.arange(self.count), np.float64)


class GroundScan:
    """The beams of a scan as lines in the image of one camera.

    Attributes:
        calibration: The camera's calibration. Class maps must have its size.
        beams: The beams of the scan.
        nearest_m: Range at which each beam enters the image, float64 `[count]`. inf if it is not visible.
        reaches: Whether each beam stays in the image up to the greatest range, bool `[count]`.
    """

    def __init__(
        self, calibration: Calibration, pose: CameraPose, beams: Beams, max_gap_px: int = 0, ignore_bottom_px: int = 0
    ) -> None:
        """Compute which pixels lie along each beam. This takes about 20 ms.

        Args:
            calibration: Calibration of the camera.
            pose: Pose of the camera in the frame of the scan.
            beams: The beams of the scan.
            max_gap_px: Largest gap to bridge along a beam's line in pixels, see `free_space_boundary`.
            ignore_bottom_px: Rows at the bottom of the image to ignore, see `free_space_boundary`.
        """
        self.calibration = calibration
        self.beams = beams
        bottom_px = calibration.height - min(max(ignore_bottom_px, 0), calibration.height - 1)
        rotation = np.array(pose.optical_from_frame)
        angles = beams.angles_rad
        directions = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=-1) @ rotation.T
        origin = -rotation @ np.array(pose.position)
        near, far = _visible(directions, origin, calibration.ray_bounds(bottom_px), beams.range_max_m)
        lines = _Lines(calibration, bottom_px, directions, origin)
        near, far = lines.trim(near, far)
        self._shown = np.flatnonzero((far > near) & (near <= beams.max_blind_m))
        lines = _Lines(calibration, bottom_px, directions[self._shown], origin)
        self.nearest_m = np.full(beams.count, np.inf)
        self.nearest_m[self._shown] = near[self._shown]
        self.reaches = (self.nearest_m < np.inf) & (far >= beams.range_max_m * (1 - 1e-6))
        self._step_px, ranges_m, self._pixels = lines.sample(near[self._shown], far[self._shown])
        # The free space ends between the last free sample and the first blocked one, so take their middle.
        self._ends_m = ranges_m.copy()
        self._ends_m[:, 1:] = (ranges_m[:, 1:] + ranges_m[:, :-1]) / 2
        self._gap = round(max(max_gap_px, 0) / self._step_px)
        self._free_m = np.where(self.reaches[self._shown], np.inf, np.nan).astype(np.float32)
        self._rows = np.arange(len(self._shown))

    def misfit(self, class_map: UInt8Array) -> str:
        """Return one sentence if the size of a class map differs from the calibration's, else an empty string."""
        return self.calibration.misfit(class_map)

    def ranges(self, class_map: UInt8Array, blocked: UInt8Array) -> Float32Array:
        """Return the distance to the end of the free space for each beam.

        Args:
            class_map: uint8 `[height, width]`, of the calibration's size.
            blocked: uint8 `[256]`, 0 for the ids of drivable classes.

        Returns:
            float32 `[count]`, metres from the frame's origin. inf means free up to the greatest range (REP 117). NaN
            means unknown: the beam is not visible, or its visible part is free but ends before the greatest range. If
            the nearest visible point is already blocked, the range is `nearest_m`.

        Raises:
            ValueError: The class map has another size than the calibration.
        """
        if misfit := self.misfit(class_map):
            raise ValueError(misfit)
        ranges = np.full(self.beams.count, np.nan, np.float32)
        if not len(self._shown):
            return ranges
        ends = (blocked != 0).take(np.ascontiguousarray(class_map).reshape(-1).take(self._pixels))
        if self._gap:
            kernel = np.ones((1, self._gap + 1), np.uint8)
            eroded = cv2.erode(
                ends.view(np.uint8), kernel, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT, borderValue=1
            )
            ends = np.asarray(eroded, np.uint8).view(np.bool_)
        first = ends.argmax(axis=1)
        rows = self._rows
        ranges[self._shown] = np.where(ends[rows, first], self._ends_m[rows, first], self._free_m)
        return ranges


@dataclass(frozen=True)
class _Lines:
    """Beams as lines in the image. The point of a beam at range r is `r * direction + origin` in the optical frame."""

    calibration: Calibration
    bottom_px: int
    directions: Float64Array
    origin: Float64Array

    def pixels(self, ranges_m: Float64Array) -> Float64Array:
        """Return the pixels `[beams, n, 2]` of ranges `[beams, n]`."""
        points = ranges_m[..., None] * self.directions[:, None] + self.origin
        return self.calibration.project(np.asarray(points[..., :2] / np.maximum(points[..., 2:], _NEAREST_M / 2)))

    def spread(self, near: Float64Array, far: Float64Array, steps: Float64Array) -> Float64Array:
        """Return ranges `[beams, n]` that are spaced in the image like `steps` (0..1, `[beams, n]`), lens ignored.

        1 / depth and range / depth change linearly along a line in the image.
        """
        near_w, far_w = (1 / np.maximum(r * self.directions[:, 2] + self.origin[2], _NEAREST_M) for r in (near, far))
        w = (1 - steps) * near_w[:, None] + steps * far_w[:, None]
        return np.asarray(((1 - steps) * (near * near_w)[:, None] + steps * (far * far_w)[:, None]) / w)

    def trim(self, near: Float64Array, far: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Cut off the parts of beams that the lens distorts out of the image.

        Returns:
            The new near and far ranges. A beam with far <= near is not visible.
        """
        if not self.calibration.coefficients:
            return near, far
        steps = np.broadcast_to(np.linspace(0.0, 1.0, 1024), (len(near), 1024))
        ranges = self.spread(near, np.maximum(far, near), steps)
        pixels = self.pixels(ranges)
        limits = np.array([self.calibration.width, self.bottom_px]) - 0.5
        with np.errstate(invalid="ignore"):
            inside = ((pixels >= -0.5) & (pixels <= limits)).all(axis=-1) & (far > near)[:, None]
        rows, first, last = np.arange(len(near)), inside.argmax(axis=1), 1023 - inside[:, ::-1].argmax(axis=1)
        any_inside = inside.any(axis=1)
        return (
            np.where(any_inside, ranges[rows, first], 0.0),
            np.where(any_inside, ranges[rows, last], 0.0),
        )

    def sample(self, near: Float64Array, far: Float64Array) -> tuple[float, Float32Array, Int32Array]:
        """Sample each beam between two ranges, with at most one step between two samples.

        Returns:
            The step in pixels, the ranges float32 `[beams, n]`, and the flat pixel indices int32 `[beams, n]`. Shorter
            beams repeat their last sample.
        """
        if not len(near):
            return 1.0, np.zeros((0, 1), np.float32), np.zeros((0, 1), np.int32)
        coarse = np.broadcast_to(np.linspace(0.0, 1.0, 257), (len(near), 257))
        hops = np.linalg.norm(np.diff(self.pixels(self.spread(near, far, coarse)), axis=1), axis=-1)
        # Overestimate the length by the longest hop, so that no two samples are more than a step apart.
        lengths_px = np.nan_to_num(hops, nan=0.0).max(axis=1) * hops.shape[1]
        most = min(_MAX_SAMPLES, _MAX_SAMPLES_OF_ALL // len(near))
        step_px = max(1.0, float(lengths_px.max()) / (most - 1))
        steps = np.arange(math.ceil(float(lengths_px.max()) / step_px) + 1) * step_px
        ranges = self.spread(near, far, np.minimum(steps / np.maximum(lengths_px, step_px)[:, None], 1.0))
        pixels = np.nan_to_num(np.rint(self.pixels(ranges)))
        column = np.clip(pixels[..., 0], 0, self.calibration.width - 1).astype(np.int32)
        row = np.clip(pixels[..., 1], 0, self.bottom_px - 1).astype(np.int32)
        return step_px, ranges.astype(np.float32), row * np.int32(self.calibration.width) + column


def _visible(
    directions: Float64Array, origin: Float64Array, bounds: tuple[float, float, float, float], range_max_m: float
) -> tuple[Float64Array, Float64Array]:
    """Return the nearest and farthest range at which each beam is within bounds on x / z and y / z.

    The farthest range is 0 if a beam never is.
    """
    low_x, high_x, low_y, high_y = bounds
    # Each row is the normal of a plane through the camera or just before it. Points with `normal * point >= offset` are
    # inside.
    normals = np.array([[0, 0, 1], [1, 0, -low_x], [-1, 0, high_x], [0, 1, -low_y], [0, -1, high_y]], np.float64)
    slopes, starts = directions @ normals.T, normals @ origin - np.array([_NEAREST_M, 0.0, 0.0, 0.0, 0.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = -starts / slopes
    near = np.where(slopes > 0, crossings, 0.0).max(axis=1)
    far = np.where(slopes < 0, crossings, range_max_m).min(axis=1)
    outside = ((slopes == 0) & (starts < 0)).any(axis=1)
    near = np.maximum(near, 0.0)
    far = np.minimum(far, range_max_m)
    return near, np.where(outside | (far <= near), 0.0, far)


def _rows(matrix: Float64Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
