"""CameraInfoFields: the fields of a sensor_msgs/CameraInfo that pass on, checked, as they are or for a smaller mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ros_kd_perception.free_space.calibration import MAX_SIDE_PX, Float64Array


@dataclass(frozen=True)
class CameraInfoFields:
    """All of a CameraInfo but its header.

    Attributes:
        height: Height of the calibrated image in pixels.
        width: Width of the calibrated image in pixels.
        distortion_model: Name of the distortion model.
        d: Its coefficients.
        k: Intrinsic matrix 3x3, by rows.
        r: Rectification matrix 3x3, by rows.
        p: Projection matrix 3x4, by rows.
        binning_x: Binning in x; 0 means 1.
        binning_y: Binning in y; 0 means 1.
        region: Region of interest: x offset, y offset, height and width. All zeros stand for the whole image.
        do_rectify: Whether the region is to be rectified.
    """

    height: int
    width: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]
    binning_x: int = 0
    binning_y: int = 0
    region: tuple[int, int, int, int] = (0, 0, 0, 0)
    do_rectify: bool = False

    @classmethod
    def from_message(cls, message: Any) -> CameraInfoFields:
        """Read a CameraInfo of rclpy or rosbags.

        Raises:
            ValueError: The camera is not calibrated, or a number is not finite or impossible. One sentence.
        """
        numbers = {name: tuple(float(value) for value in getattr(message, name)) for name in "dkrp"}
        for name, values in numbers.items():
            if not all(map(math.isfinite, values)):
                raise ValueError(
                    f"expected a CameraInfo of finite numbers, got {name.upper()} with NaN or infinity; calibrate the "
                    "camera again"
                )
        roi = message.roi
        fields = cls(
            int(message.height),
            int(message.width),
            str(message.distortion_model),
            **numbers,
            binning_x=int(message.binning_x),
            binning_y=int(message.binning_y),
            region=(int(roi.x_offset), int(roi.y_offset), int(roi.height), int(roi.width)),
            do_rectify=bool(roi.do_rectify),
        )
        fields._check()
        return fields

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that it describes, with binning and region of interest applied."""
        _, _, height, width = self.region
        rows, columns = (
            (height or self.height) // max(self.binning_y, 1),
            (width or self.width) // max(self.binning_x, 1),
        )
        return max(rows, 1), max(columns, 1)

    def misfit(self, height: int, width: int) -> str:
        """Return one sentence if images have another size than it describes, else an empty string."""
        if self.image_size == (height, width):
            return ""
        own_height, own_width = self.image_size
        return (
            f"expected images of {own_width}x{own_height}, the size in the CameraInfo, got {width}x{height}; calibrate "
            "the camera at the size of its images"
        )

    def of_cells(self, cell_px: int) -> CameraInfoFields:
        """Return the CameraInfo of a smaller image, each pixel of which covers `cell_px` x `cell_px` pixels.

        Binning and region of interest are applied to the matrices, so the result describes the smaller image as it is.
        Cells that the image does not fill are left out.
        """
        rows, columns = (side // cell_px for side in self.image_size)
        scale_x, scale_y = max(self.binning_x, 1) * cell_px, max(self.binning_y, 1) * cell_px
        # Pixel centres are at whole numbers: the centre of a cell is in the middle of the centres of its pixels.
        shift = np.array(
            [
                [1 / scale_x, 0.0, (0.5 - self.region[0]) / scale_x - 0.5],
                [0.0, 1 / scale_y, (0.5 - self.region[1]) / scale_y - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )
        k, p = shift @ np.reshape(self.k, (3, 3)), shift @ np.reshape(self.p, (3, 4))
        # An uncalibrated P is all zeros and stays that.
        return CameraInfoFields(
            max(rows, 1), max(columns, 1), self.distortion_model, self.d, _flat(k), self.r, _flat(p)
        )

    def _check(self) -> None:
        size = f"{self.width}x{self.height}"
        if not all(0 < side <= MAX_SIDE_PX for side in (self.width, self.height)):
            raise ValueError(f"expected a CameraInfo of 1 to {MAX_SIDE_PX} px a side, got {size}")
        if self.k[0] <= 0 or self.k[4] <= 0:
            raise ValueError(
                f"expected a CameraInfo with focal lengths above 0 px, got {self.k[0]:g} and {self.k[4]:g}; calibrate "
                "the camera, because an uncalibrated one sends zeros"
            )
        x, y, height, width = self.region
        if x + (width or self.width) > self.width or y + (height or self.height) > self.height:
            raise ValueError(
                f"expected a region of interest within the {size} px of the CameraInfo, got {width}x{height} px at "
                f"{x}, {y}; correct the camera driver, all zeros mean the whole image"
            )


def _flat(matrix: Float64Array) -> tuple[float, ...]:
    return tuple(matrix.reshape(-1).tolist())
