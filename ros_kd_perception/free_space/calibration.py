"""Calibration: what a sensor_msgs/CameraInfo says about where a ray of light falls in the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

# Coefficients of each distortion model, as many as the message may have.
_COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8), "equidistant": (0, 4)}
_MAX_SIDE_PX = 16384
_MAX_SIDE_OVER_FOCAL = 2 * math.tan(math.radians(170 / 2))
_LARGEST_OFFSET = 0.2  # of the principal point, as a share of the width; a calibration at half the size is off by 0.25
_RADII = np.linspace(0.0, 12.0, 12_001)  # of rays, up to 85 degrees off the axis


@dataclass(frozen=True)
class Calibration:
    """Size, pinhole and lens of one camera as its images come, binning and region of interest worked in.

    Attributes:
        width: of the image, pixels.
        height: of the image, pixels.
        focal_x: pixels.
        focal_y: pixels.
        center_x: pixels; pixel centres lie at whole numbers.
        center_y: pixels.
        model: `plumb_bob`, `rational_polynomial` or `equidistant`.
        coefficients: of the model, in the order of the message; empty for no distortion.
        doubt: one sentence where the numbers are possible and unlikely; empty else.
    """

    width: int
    height: int
    focal_x: float
    focal_y: float
    center_x: float
    center_y: float
    model: str = "plumb_bob"
    coefficients: tuple[float, ...] = ()
    doubt: str = ""

    @classmethod
    def from_message(cls, message: Any, rectified: bool = False) -> Calibration:
        """Read a CameraInfo, of rclpy or of rosbags.

        Args:
            message: the CameraInfo.
            rectified: the images are rectified already (`image_rect`), so that P describes them.

        Raises:
            ValueError: not calibrated, not finite, of no lens that there is, of a region beyond the sensor, or of a
                distortion model that is not known; one sentence.
        """
        model = str(message.distortion_model) or "plumb_bob"
        coefficients = () if rectified else _coefficients(model, message.d)
        # K is row by row 3x3, P is 3x4.
        matrix = [float(value) for value in (message.p if rectified else message.k)]
        row = 4 if rectified else 3
        focal_x, center_x, focal_y, center_y = matrix[0], matrix[2], matrix[row + 1], matrix[row + 2]
        sides = (int(message.width), int(message.height))
        if not all(0 < side <= _MAX_SIDE_PX for side in sides):
            raise ValueError(f"expected a CameraInfo of 1 to {_MAX_SIDE_PX} px a side, got {sides[0]}x{sides[1]}")
        if not all(map(math.isfinite, matrix)) or focal_x <= 0 or focal_y <= 0:
            raise ValueError(
                f"expected a CameraInfo with focal lengths above 0 px, got {focal_x:g} and {focal_y:g}; calibrate the "
                "camera, as an uncalibrated one sends zeros"
            )
        _check_lens(sides, (focal_x, focal_y), center_x)
        region = message.roi
        binning_x, binning_y = max(int(message.binning_x), 1), max(int(message.binning_y), 1)
        # A region of size 0 is the whole image.
        width, height = int(region.width) or sides[0], int(region.height) or sides[1]
        if int(region.x_offset) + width > sides[0] or int(region.y_offset) + height > sides[1]:
            raise ValueError(
                f"expected a region of interest within the {sides[0]}x{sides[1]} px of the CameraInfo, got {width}x"
                f"{height} px at {region.x_offset}, {region.y_offset}; correct the camera driver, all zeros are the "
                "whole image"
            )
        # The centre of a binned pixel lies between those of the pixels that it was made of.
        return cls(
            width=max(width // binning_x, 1),
            height=max(height // binning_y, 1),
            focal_x=focal_x / binning_x,
            focal_y=focal_y / binning_y,
            center_x=(center_x - int(region.x_offset) + 0.5) / binning_x - 0.5,
            center_y=(center_y - int(region.y_offset) + 0.5) / binning_y - 0.5,
            model=model,
            coefficients=coefficients if any(coefficients) else (),
            doubt=_doubt(sides[0], center_x),
        )

    def project(self, rays: Float64Array) -> Float64Array:
        """Pixels `[..., 2]` of rays `[..., 2]` (x / z and y / z of the optical frame); NaN beyond the lens's range.

        Formulas: OpenCV's `calib3d` for plumb_bob and rational_polynomial, its `fisheye` for equidistant.
        """
        x, y = rays[..., 0], rays[..., 1]
        if self.coefficients:
            radius = np.hypot(x, y)
            stretch = self._stretch(radius)
            stretch = np.where(radius <= self.ray_limit, stretch, np.nan)
            if self.model == "equidistant":
                x, y = x * stretch, y * stretch
            else:
                p1, p2 = self.coefficients[2:4]
                square = radius * radius
                x, y = (
                    x * stretch + 2 * p1 * x * y + p2 * (square + 2 * x * x),
                    y * stretch + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
                )
        return np.stack([x * self.focal_x + self.center_x, y * self.focal_y + self.center_y], axis=-1)

    @cached_property
    def ray_limit(self) -> float:
        """How far off the axis, as tangent of the angle, the lens model holds: from where it folds back, nothing is."""
        bent = _RADII * self._stretch(_RADII)
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(~(np.diff(bent) > 0))
        return float(_RADII[wrong[0]]) if len(wrong) else float(_RADII[-1])

    def ray_bounds(self, bottom_px: int) -> tuple[float, float, float, float]:
        """Least and greatest x / z, then y / z, of the rays that may fall into the rows above `bottom_px`."""
        across = np.linspace(-0.5, self.width - 0.5, 65)
        down = np.linspace(-0.5, bottom_px - 0.5, 65)
        border = np.concatenate(
            [
                np.stack(np.broadcast_arrays(x, y), axis=-1)
                for x, y in ((across, down[0]), (across, down[-1]), (across[0], down), (across[-1], down))
            ]
        )
        points = (border - (self.center_x, self.center_y)) / (self.focal_x, self.focal_y)
        margin = 0.0
        if self.coefficients:
            limit = self.ray_limit
            radii = _RADII[limit >= _RADII]
            radius = np.maximum(np.hypot(points[:, 0], points[:, 1]), 1e-9)
            straight = np.interp(radius, radii * self._stretch(radii), radii)
            points *= (straight / radius)[:, None]
            # For the tangential part, which was left out; what is too much is cut off where it is projected.
            margin = 0.05 * float(np.ptp(points))
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])

    def _stretch(self, radius: Float64Array) -> Float64Array:
        """How much farther from the image's centre than without a lens, by the radial part of the model."""
        if not self.coefficients:
            return np.ones_like(radius)
        if self.model == "equidistant":
            angle = np.arctan(radius)
            k1, k2, k3, k4 = self.coefficients
            square = angle * angle
            bent = angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
            return np.asarray(np.divide(bent, radius, out=np.ones_like(radius), where=radius > 1e-9))
        k1, k2, _, _, k3, k4, k5, k6 = (*self.coefficients, 0.0, 0.0, 0.0, 0.0)[:8]
        square = radius * radius
        below = 1 + square * (k4 + square * (k5 + square * k6))
        below = np.where(below > 1e-6, below, np.nan)
        return np.asarray((1 + square * (k1 + square * (k2 + square * k3))) / below)


def _check_lens(sides: tuple[int, int], focal: tuple[float, float], center_x: float) -> None:
    """Refuse what is of no camera: such a scan would show a wall a few metres ahead, or none."""
    if any(side > _MAX_SIDE_OVER_FOCAL * length for side, length in zip(sides, focal, strict=True)):
        raise ValueError(
            f"expected a CameraInfo with focal lengths in pixels of its {sides[0]}x{sides[1]} image, got {focal[0]:g} "
            f"and {focal[1]:g}, a view of more than 170 degrees; calibrate the camera"
        )
    if not 0 < center_x < sides[0]:
        raise ValueError(
            f"expected a CameraInfo with its principal point between the sides of the image, at x of 0 to {sides[0]} "
            f"px, got {center_x:g}; calibrate the camera"
        )


def _doubt(width: int, center_x: float) -> str:
    # Of x alone: images are cut at the top, or at the bottom, more often than drivers say so.
    if abs(center_x / width - 0.5) <= _LARGEST_OFFSET:
        return ""
    return (
        f"the principal point of the CameraInfo is at x = {center_x:.0f} px of {width}: unless the image was cut on "
        "one side, it was calibrated at another size"
    )


def _coefficients(model: str, values: Sequence[float]) -> tuple[float, ...]:
    if model not in _COEFFICIENTS:
        raise ValueError(
            f"expected a CameraInfo with the distortion model {', '.join(_COEFFICIENTS)}, got {model[:80]!r}; rectify "
            "the images and say so, or calibrate with one of these"
        )
    if len(values) not in _COEFFICIENTS[model]:
        counts = " or ".join(map(str, _COEFFICIENTS[model]))
        raise ValueError(f"expected {counts} coefficients for the distortion model {model}, got {len(values)}")
    coefficients = tuple(float(value) for value in values)
    if not all(map(math.isfinite, coefficients)):
        raise ValueError(f"expected finite distortion coefficients, got {coefficients}")
    return coefficients
