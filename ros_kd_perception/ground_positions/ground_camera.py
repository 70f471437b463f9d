"""GroundCamera: where on the ground the boxes of one camera stand, and how well that is known.

An object stands where its box ends below: the ray through the middle of the lower edge meets the ground there. The
ground is assumed to be a plane. docs/ground_positions.md has the error model and what it leaves out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ros_kd_perception.free_space.calibration import Calibration, Float64Array
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.inverse_lens import InverseLens
from ros_kd_perception.model.letterbox import InputGeometry
from ros_kd_perception.structures import Detections

_MAX_HEIGHT_M = 50.0
# Rays that fall by less than this for each metre forward count as level. They would meet the ground 10 km away.
_LEVEL = 1e-4


@dataclass(frozen=True)
class ErrorModel:
    """Standard errors from which the covariance of a position follows.

    An edge of a box is wrong by `edge_error_px` pixels of the network's input, because the network sees no more, and by
    `edge_error_share` of the box, because the errors of detectors grow with the box: evaluation by overlap (IoU) takes
    this for granted. Both are independent. `python benchmarks/ground_positions.py` prints what a student's edges are
    wrong by.

    Attributes:
        edge_error_px: Standard error of an edge in pixels of the network's input.
        edge_error_share: Standard error of an edge as a share of the box's height or width.
        pitch_error_deg: Standard error of the camera's pitch over the ground: mounting, load, braking, slopes.
        yaw_error_deg: Standard error of the camera's yaw: mounting.
    """

    edge_error_px: float = 1.0
    edge_error_share: float = 0.05
    pitch_error_deg: float = 0.5
    yaw_error_deg: float = 0.5


@dataclass(frozen=True)
class LeftOut:
    """How many boxes of a frame have no position, by reason.

    Attributes:
        cut: The lower edge may be that of the image, of the region of interest or of the vehicle's own bonnet.
        above_horizon: The lower edge is not below the horizon, or where the lens shows nothing.
        too_far: The position is beyond the greatest range.
        off_ground: Objects of its class do not stand on the ground.
    """

    cut: int = 0
    above_horizon: int = 0
    too_far: int = 0
    off_ground: int = 0


@dataclass(frozen=True)
class GroundPositions:
    """The objects of one frame that have a position on the ground, in the order of their boxes.

    Attributes:
        found: Their boxes, scores, classes and ids.
        points_m: float64 `[n, 2]`, x and y in the ground's frame, metres.
        covariances_m2: float64 `[n, 2, 2]` of x and y, square metres.
        sizes_m: float64 `[n, 2]`, width across the line of sight and height of the visible part, metres.
        bearings_rad: float64 `[n]`, direction from the camera to the object, counter-clockwise from x.
        left_out: The boxes without a position.
    """

    found: Detections
    points_m: Float64Array
    covariances_m2: Float64Array
    sizes_m: Float64Array
    bearings_rad: Float64Array
    left_out: LeftOut = LeftOut()

    def __len__(self) -> int:
        return len(self.points_m)


class GroundCamera:
    """Finds positions on the ground from the boxes of one calibrated camera.

    Attributes:
        calibration: The camera's calibration. Images must have its size.

    Args:
        calibration: Calibration of the camera.
        pose: Pose of the camera in the frame of the positions, whose z = 0 is the ground.
        errors: Standard errors of boxes and mounting.
        range_max_m: Greatest distance of a position from the frame's origin, metres.
        ignore_bottom_px: Rows at the bottom of the image that show the vehicle itself.
    """

    def __init__(
        self,
        calibration: Calibration,
        pose: CameraPose,
        errors: ErrorModel = ErrorModel(),
        range_max_m: float = 50.0,
        ignore_bottom_px: int = 0,
    ) -> None:
        self.calibration = calibration
        self._errors = errors
        self._range_max_m = range_max_m
        self._bottom_px = calibration.height - max(ignore_bottom_px, 0)
        self._lens = InverseLens(calibration)
        self._rotation = np.array(pose.optical_from_frame)
        self._position = np.array(pose.position)

    def misfit(self, geometry: InputGeometry) -> str:
        """Return one sentence if the size of an image differs from the calibration's, else an empty string."""
        calibration = self.calibration
        if (geometry.source_height, geometry.source_width) == (calibration.height, calibration.width):
            return ""
        return (
            f"expected images of {calibration.width}x{calibration.height}, the size in the CameraInfo, got "
            f"{geometry.source_width}x{geometry.source_height}"
        )

    def positions(self, found: Detections, geometry: InputGeometry) -> GroundPositions:
        """Find where the boxes of a frame stand.

        The covariance is first order: `J S J^T`, with the derivatives J of the position by the foot's pixel and by the
        camera's pitch and yaw, and the variances S of `ErrorModel`. The foot is the middle of two edges, so its
        variance across is half that of an edge.

        Args:
            found: Boxes in pixels of the image.
            geometry: How the image was fitted into the network's input.

        Raises:
            ValueError: The image has another size than the CameraInfo.
        """
        if misfit := self.misfit(geometry):
            raise ValueError(misfit)
        left, top, right, bottom = found.boxes_xyxy.astype(np.float64).T
        error_x, error_y = self._edge_errors(right - left, bottom - top, geometry)
        region = geometry.region
        is_cut = bottom + error_y >= min(self._bottom_px, region.y + region.height)
        # Edges of boxes lie between pixels, whose centres are at integers.
        middle, foot = (left + right) / 2 - 0.5, bottom - 0.5
        pixels = [(middle, foot), (left - 0.5, foot), (right - 0.5, foot), (middle, top - 0.5)]
        rays, slopes = self._lens.rays(np.concatenate([np.stack(pixel, axis=-1) for pixel in pixels]))
        count = len(found)
        feet, left_rays, right_rays, top_rays = rays.reshape(4, count, 2)
        directions = self._directions(feet)
        looks_down = ~is_cut & (directions[:, 2] < -_LEVEL * np.hypot(directions[:, 0], directions[:, 1]))
        with np.errstate(all="ignore"):
            depths = -self._position[2] / directions[:, 2]
            points = self._position[:2] + depths[:, None] * directions[:, :2]
            is_near = np.hypot(points[:, 0], points[:, 1]) <= self._range_max_m
        rows = np.flatnonzero(looks_down & is_near)
        widths = (right_rays[rows, 0] - left_rays[rows, 0]) * depths[rows]
        seen_m = points[rows] - self._position[:2]
        return GroundPositions(
            found.rows(rows),
            points[rows],
            self._covariances(feet[rows], directions[rows], slopes[rows], error_x[rows], error_y[rows]),
            np.stack([np.nan_to_num(widths), self._heights(seen_m, top_rays[rows])], axis=-1),
            np.arctan2(seen_m[:, 1], seen_m[:, 0]),
            LeftOut(
                cut=int(np.count_nonzero(is_cut)),
                above_horizon=int(np.count_nonzero(~is_cut & ~looks_down)),
                too_far=int(np.count_nonzero(looks_down & ~is_near)),
            ),
        )

    def _edge_errors(
        self, widths: Float64Array, heights: Float64Array, geometry: InputGeometry
    ) -> tuple[Float64Array, Float64Array]:
        """Return the standard errors of upright and of level edges, in pixels of the image."""
        errors, region = self._errors, geometry.region
        pixel_x, pixel_y = region.width / geometry.placed_width, region.height / geometry.placed_height
        return (
            np.hypot(errors.edge_error_px * pixel_x, errors.edge_error_share * widths),
            np.hypot(errors.edge_error_px * pixel_y, errors.edge_error_share * heights),
        )

    def _directions(self, rays: Float64Array) -> Float64Array:
        """Return the directions `[n, 3]` of rays in the ground's frame, of length 1 along the optical axis."""
        return np.asarray(rays @ self._rotation[:2] + self._rotation[2])

    def _covariances(
        self,
        rays: Float64Array,
        directions: Float64Array,
        slopes: Float64Array,
        error_x: Float64Array,
        error_y: Float64Array,
    ) -> Float64Array:
        # The point is C - (height / d_z) d, so it moves by -(height / d_z) (e - (e_z / d_z) d) if d moves by e.
        of_rays = np.broadcast_to(self._rotation[:2].T, (len(rays), 3, 2)) @ slopes
        # The camera turns about its own axis to the left, nose down: the ray to the ground moves towards the optical
        # axis' down side.
        of_pitch = self._rotation[1] - rays[:, 1:] * self._rotation[2]
        of_yaw = np.stack([-directions[:, 1], directions[:, 0], np.zeros(len(rays))], axis=-1)
        moves = np.concatenate([of_rays, of_pitch[:, :, None], of_yaw[:, :, None]], axis=2)
        per_depth = directions[:, :2] / directions[:, 2:]
        scale = -self._position[2] / directions[:, 2]
        jacobians = scale[:, None, None] * (moves[:, :2] - per_depth[:, :, None] * moves[:, 2:])
        errors, all_rows = self._errors, np.ones(len(rays))
        turns = [all_rows * math.radians(degrees) for degrees in (errors.pitch_error_deg, errors.yaw_error_deg)]
        weighted = jacobians * np.stack([error_x / math.sqrt(2), error_y, *turns], axis=-1)[:, None]
        return np.asarray(weighted @ weighted.transpose(0, 2, 1))

    def _heights(self, seen_m: Float64Array, top_rays: Float64Array) -> Float64Array:
        """Return the heights at which upright lines through the points meet the rays of the boxes' upper edges."""
        directions = self._directions(top_rays)
        with np.errstate(all="ignore"):
            rise = directions[:, 2] / np.hypot(directions[:, 0], directions[:, 1])
        heights = self._position[2] + np.hypot(seen_m[:, 0], seen_m[:, 1]) * rise
        return np.asarray(np.clip(np.nan_to_num(heights, posinf=_MAX_HEIGHT_M), 0.0, _MAX_HEIGHT_M))


def ellipses(covariances_m2: npt.NDArray[np.float64], sigmas: float) -> tuple[Float64Array, Float64Array]:
    """Return the half axes and directions of the ellipses of some standard errors.

    Args:
        covariances_m2: float64 `[n, 2, 2]`.
        sigmas: Size of the ellipse in standard errors. 2.45 holds 95 % of a normal distribution in the plane.

    Returns:
        float64 `[n, 2]`, the longer half axis first, metres, and float64 `[n]`, its direction counter-clockwise from x.
    """
    xx, xy, yy = covariances_m2[:, 0, 0], covariances_m2[:, 0, 1], covariances_m2[:, 1, 1]
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    squares = np.stack([middle + spread, np.maximum(middle - spread, 0.0)], axis=-1)
    return sigmas * np.sqrt(squares), np.arctan2(xy, (xx - yy) / 2) / 2
