"""Calibration: projects rays into the image of a camera according to its sensor_msgs/CameraInfo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ros_kd_perception.structures import UInt8Array

Float64Array = npt.NDArray[np.float64]

_FISHEYE = "equidistant"
# Allowed numbers of coefficients for each distortion model.
_COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8), _FISHEYE: (0, 4)}
MAX_SIDE_PX = 16384
_MAX_SIDE_OVER_FOCAL = 2 * math.tan(math.radians(170 / 2))
# Largest plausible offset of the principal point, as a share of the width. A calibration at half the size gives 0.25.
_LARGEST_OFFSET = 0.2
_RADII = np.linspace(0.0, 12.0, 12_001)  # tangents of ray angles, up to 85 degrees off the axis


@dataclass(frozen=True)
class Calibration:
    """Image size, pinhole model and lens of one camera, with binning and region of interest already applied.

    Attributes:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        focal_x: Focal length in x, in pixels.
        focal_y: Focal length in y, in pixels.
        center_x: Principal point in x, in pixels. The centre of a pixel is at an integer.
        center_y: Principal point in y, in pixels.
        model: Distortion model: `plumb_bob`, `rational_polynomial` or `equidistant`.
        coefficients: Coefficients of the model in the order of the message. Empty for a pinhole without a lens.
        doubt: One sentence if the values are possible but unlikely, else empty.
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
        """Read a CameraInfo of rclpy or rosbags.

        Args:
            message: The CameraInfo.
            rectified: Whether the images are already rectified (`image_rect`). P then describes them instead of K.

        Raises:
            ValueError: The camera is not calibrated, values are not finite or impossible for a lens, the region of
                interest exceeds the sensor, or the distortion model is unknown. One sentence.
        """
        model = str(message.distortion_model) or "plumb_bob"
        coefficients = () if rectified else _coefficients(model, message.d)
        # K is a 3x3 matrix and P a 3x4 matrix, both stored by rows.
        matrix = [float(value) for value in (message.p if rectified else message.k)]
        row = 4 if rectified else 3
        focal_x, center_x, focal_y, center_y = matrix[0], matrix[2], matrix[row + 1], matrix[row + 2]
        sides = (int(message.width), int(message.height))
        if not all(0 < side <= MAX_SIDE_PX for side in sides):
            raise ValueError(f"expected a CameraInfo of 1 to {MAX_SIDE_PX} px a side, got {sides[0]}x{sides[1]}")
        if not all(map(math.isfinite, matrix)) or focal_x <= 0 or focal_y <= 0:
            raise ValueError(
                f"expected a CameraInfo with focal lengths above 0 px, got {focal_x:g} and {focal_y:g}; calibrate the "
                "camera, because an uncalibrated one sends zeros"
            )
        _check_lens(sides, (focal_x, focal_y), center_x)
        region = message.roi
        binning_x, binning_y = max(int(message.binning_x), 1), max(int(message.binning_y), 1)
        # A region of size 0 means the whole image.
        width, height = int(region.width) or sides[0], int(region.height) or sides[1]
        if int(region.x_offset) + width > sides[0] or int(region.y_offset) + height > sides[1]:
            raise ValueError(
                f"expected a region of interest within the {sides[0]}x{sides[1]} px of the CameraInfo, got {width}x"
                f"{height} px at {region.x_offset}, {region.y_offset}; correct the camera driver, all zeros mean the "
                "whole image"
            )
        # The centre of a binned pixel is in the middle of the centres of its source pixels.
        return cls(
            width=max(width // binning_x, 1),
            height=max(height // binning_y, 1),
            focal_x=focal_x / binning_x,
            focal_y=focal_y / binning_y,
            center_x=(center_x - int(region.x_offset) + 0.5) / binning_x - 0.5,
            center_y=(center_y - int(region.y_offset) + 0.5) / binning_y - 0.5,
            model=model,
            # An equidistant lens without further distortion is a fisheye still, and no pinhole.
            coefficients=coefficients if any(coefficients) or model == _FISHEYE else (),
            doubt=_doubt(sides[0], center_x) or _doubt_of_lens(coefficients, model),
        )

    def project(self, rays: Float64Array) -> Float64Array:
        """Project rays `[..., 2]` (x / z and y / z in the optical frame) to pixels `[..., 2]`.

        Rays beyond the valid range of the lens model give NaN. The formulas are those of OpenCV: `calib3d` for
        plumb_bob and rational_polynomial, `fisheye` for equidistant.
        """
        x, y = rays[..., 0], rays[..., 1]
        if self.coefficients:
            radius = np.hypot(x, y)
            stretch = self._stretch(radius)
            stretch = np.where(radius <= self.ray_limit, stretch, np.nan)
            if self.model == _FISHEYE:
                x, y = x * stretch, y * stretch
            else:
                p1, p2 = self.coefficients[2:4]
                square = radius * radius
                x, y = (
                    x * stretch + 2 * p1 * x * y + p2 * (square + 2 * x * x),
                    y * stretch + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
                )
        return np.stack([x * self.focal_x + self.center_x, y * self.focal_y + self.center_y], axis=-1)

    def misfit(self, class_map: UInt8Array) -> str:
        """Return one sentence if the size of a class map differs from the calibration's, else an empty string."""
        if class_map.shape == (self.height, self.width):
            return ""
        return (
            f"expected class maps of {self.width}x{self.height}, the size in the CameraInfo, got "
            f"{class_map.shape[1]}x{class_map.shape[0]}; calibrate the camera at the size of its images"
        )

    @cached_property
    def ray_limit(self) -> float:
        """Largest valid angle off the axis, as its tangent. Beyond it the lens model folds back on itself."""
        bent = _RADII * self._stretch(_RADII)
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(~(np.diff(bent) > 0))
        return float(_RADII[wrong[0]]) if len(wrong) else float(_RADII[-1])

    def ray_bounds(self, bottom_px: int) -> tuple[float, float, float, float]:
        """Return bounds of the rays that may fall into the rows above `bottom_px`.

        Returns:
            Least and greatest x / z, then least and greatest y / z.
        """
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
            points = self.straightened(points)
            # A margin for the tangential distortion, which is ignored here. The projection cuts off the excess later.
            margin = 0.05 * float(np.ptp(points))
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])

    def straightened(self, points: Float64Array) -> Float64Array:
        """Undo the radial distortion of points `[..., 2]`, in units of the focal length, nearly exactly."""
        if not self.coefficients:
            return points
        radii = _RADII[self.ray_limit >= _RADII]
        radius = np.maximum(np.hypot(points[..., 0], points[..., 1]), 1e-9)
        straight = np.interp(radius, radii * self._stretch(radii), radii)
        return np.asarray(points * (straight / radius)[..., None])

    def _stretch(self, radius: Float64Array) -> Float64Array:
        """Return the factor by which the radial distortion moves a point away from the image's centre."""
        if not self.coefficients:
            return np.ones_like(radius)
        if self.model == _FISHEYE:
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
    """Refuse values that no camera has. A scan with them would show false obstacles or miss real ones."""
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
    # Check x only: images are often cropped at the top or bottom without the driver saying so.
    if abs(center_x / width - 0.5) <= _LARGEST_OFFSET:
        return ""
    return (
        f"the principal point of the CameraInfo is at x = {center_x:.0f} px of {width}: unless the image is cropped on "
        "one side, the camera was calibrated at another size"
    )


def _doubt_of_lens(coefficients: tuple[float, ...], model: str) -> str:
    if model != _FISHEYE or not coefficients or any(coefficients):
        return ""
    return (
        f"all coefficients of the lens model {_FISHEYE} are 0, so the image is taken for that of an ideal fisheye: if "
        "it is rectified, set scan.rectified or the distortion model plumb_bob"
    )


def _coefficients(model: str, values: Sequence[float]) -> tuple[float, ...]:
    if model not in _COEFFICIENTS:
        raise ValueError(
            f"expected a CameraInfo with the distortion model {', '.join(_COEFFICIENTS)}, got {model[:80]!r}; rectify "
            "the images and set scan.rectified, or calibrate with one of these"
        )
    if len(values) not in _COEFFICIENTS[model]:
        counts = " or ".join(map(str, _COEFFICIENTS[model]))
        raise ValueError(f"expected {counts} coefficients for the distortion model {model}, got {len(values)}")
    coefficients = tuple(float(value) for value in values)
    if not all(map(math.isfinite, coefficients)):
        raise ValueError(f"expected finite distortion coefficients, got {coefficients}")
    return coefficients
