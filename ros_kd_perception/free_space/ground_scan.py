"""Free space on the ground: how far one can drive in each direction, as a laser scanner would say it.

A beam leaves the origin of a vehicle frame along the ground. What the camera shows of it is a line in the image, which
is worked out once for a camera; for each frame the class map is then read along these lines. The ground is a plane: of
what that costs on hills and under braking, docs/free_space.md has the figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ros_kd_perception.free_space.calibration import Calibration, Float64Array
from ros_kd_perception.structures import Float32Array, Int32Array, UInt8Array

# Rows are the axes of an optical frame (x right, y down, z forward) in those of a body (x forward, y left, z up):
# REP 103.
_OPTICAL_FROM_BODY = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
_NEAREST_M = 0.05
# Whatever size a CameraInfo claims: samples of a beam, and of all beams together.
_MAX_SAMPLES = 4096
_MAX_SAMPLES_OF_ALL = 1 << 21
MAX_HEIGHT_M = 50.0


@dataclass(frozen=True)
class CameraPose:
    """Where a camera is in a frame whose z = 0 is the ground.

    Attributes:
        position: x, y, z of the camera, metres.
        optical_from_frame: rotation, rows first: what turns a direction of the frame into the optical frame.
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
        """From how a camera is mounted, as in a URDF `rpy` of its body frame (x forward, y left, z up).

        Args:
            x_m: forward of the frame's origin.
            y_m: to the left of it.
            height_m: above the ground.
            roll_deg: positive right side down.
            pitch_deg: positive nose down.
            yaw_deg: positive to the left.
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
        """From a transform that takes points of the optical frame to the ground's frame, as TF gives it."""
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
    """The directions of a scan: all around, evenly, the first one straight back.

    Attributes:
        count: of the beams.
        range_max_m: free space is followed so far.
        max_blind_m: beams that the image does not show from here on, or from nearer, stay unknown: what lies before
            would be taken for free.
    """

    count: int
    range_max_m: float
    max_blind_m: float

    @classmethod
    def from_increment(cls, increment_deg: float, range_max_m: float, max_blind_m: float) -> Beams:
        """As many beams as fit best."""
        return cls(max(round(360.0 / increment_deg), 1), range_max_m, max_blind_m)

    @property
    def increment_rad(self) -> float:
        """Between neighbours."""
        return 2 * math.pi / self.count

    @property
    def angles_rad(self) -> Float64Array:
        """From -pi, counter-clockwise seen from above, 0 straight ahead (REP 103)."""
        return np.asarray(-math.pi + self.increment_rad * np.arange(self.count), np.float64)


class GroundScan:
    """The lines of a scan's beams in the image of one camera.

    Attributes:
        calibration: as given; the class maps have its size.
        beams: as given.
        nearest_m: where the image begins to show each beam, float64 `[count]`; inf where it does not.
        reaches: whether it then shows it up to the greatest range, bool `[count]`.
    """

    def __init__(
        self, calibration: Calibration, pose: CameraPose, beams: Beams, max_gap_px: int = 0, ignore_bottom_px: int = 0
    ) -> None:
        """Work out which pixels lie along each beam, some 20 ms.

        Args:
            calibration: of the camera.
            pose: of the camera in the frame of the scan.
            beams: of the scan.
            max_gap_px: as for `free_space_boundary`, along the beam's line.
            ignore_bottom_px: as for `free_space_boundary`.
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
        # What ends the free space lies between the last free sample and the first that is not.
        self._ends_m = ranges_m.copy()
        self._ends_m[:, 1:] = (ranges_m[:, 1:] + ranges_m[:, :-1]) / 2
        self._gap = round(max(max_gap_px, 0) / self._step_px)
        self._free_m = np.where(self.reaches[self._shown], np.inf, np.nan).astype(np.float32)
        self._rows = np.arange(len(self._shown))

    def misfit(self, class_map: UInt8Array) -> str:
        """One sentence if a class map has not the calibration's size, else empty."""
        calibration = self.calibration
        if class_map.shape == (calibration.height, calibration.width):
            return ""
        return (
            f"expected class maps of {calibration.width}x{calibration.height}, the size that CameraInfo says, got "
            f"{class_map.shape[1]}x{class_map.shape[0]}"
        )

    def ranges(self, class_map: UInt8Array, blocked: UInt8Array) -> Float32Array:
        """How far it is to the end of the free space.

        Args:
            class_map: uint8 `[height, width]`, of the calibration's size.
            blocked: uint8 `[256]`, 0 for the ids that are drivable.

        Returns:
            float32 `[count]`, metres from the frame's origin. inf: free up to the greatest range (REP 117). NaN:
            nothing is known, for the image does not show the beam, or not far enough and all that it shows is free.
            Where not even the nearest place that the image shows is free, `nearest_m`.
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
    """Beams as lines in the image: a beam's point at the range r is `r * direction + origin` in the optical frame."""

    calibration: Calibration
    bottom_px: int
    directions: Float64Array
    origin: Float64Array

    def pixels(self, ranges_m: Float64Array) -> Float64Array:
        """Pixels `[beams, n, 2]` of ranges `[beams, n]`."""
        points = ranges_m[..., None] * self.directions[:, None] + self.origin
        return self.calibration.project(np.asarray(points[..., :2] / np.maximum(points[..., 2:], _NEAREST_M / 2)))

    def spread(self, near: Float64Array, far: Float64Array, steps: Float64Array) -> Float64Array:
        """Ranges `[beams, n]` that lie as evenly in the image as `steps` (0..1, `[beams, n]`) do, without distortion.

        Along a line in the image 1 / depth and range / depth change evenly.
        """
        near_w, far_w = (1 / np.maximum(r * self.directions[:, 2] + self.origin[2], _NEAREST_M) for r in (near, far))
        w = (1 - steps) * near_w[:, None] + steps * far_w[:, None]
        return np.asarray(((1 - steps) * (near * near_w)[:, None] + steps * (far * far_w)[:, None]) / w)

    def trim(self, near: Float64Array, far: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Cut off what a lens bends out of the image; nothing is left where far is not above near."""
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
        """Step in pixels, ranges float32 `[beams, n]`, and flat indices of the pixels there; the ends repeat."""
        if not len(near):
            return 1.0, np.zeros((0, 1), np.float32), np.zeros((0, 1), np.int32)
        coarse = np.broadcast_to(np.linspace(0.0, 1.0, 257), (len(near), 257))
        hops = np.linalg.norm(np.diff(self.pixels(self.spread(near, far, coarse)), axis=1), axis=-1)
        # As long as if every hop were the longest: then no two samples are farther apart than a step.
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
    """Nearest and farthest range at which each beam lies within bounds on x / z and y / z; far is 0 where none does."""
    low_x, high_x, low_y, high_y = bounds
    # Each row is a plane through the camera, or before it: `normal * point >= offset` is inside.
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
