"""GroundGrid: where the ground is that each cell of an image shows, for costmaps that need a point for each pixel.

The ground is assumed to be a plane, as for the scan, so the points of a mounted camera never change. For each frame
they are only cut off where the free space ends; what is behind that place may be higher than the ground.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ros_kd_perception.free_space.calibration import Float64Array
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.cell_rays import CellRays
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.structures import Float32Array, Int32Array, UInt8Array

# Rays that fall less than this on a metre forward never meet the ground within any range.
_LEAST_FALL = 1e-6


class GroundCut(NamedTuple):
    """The ground that one frame shows.

    Attributes:
        points: float32 `[rows, columns, 3]`, x, y and z of each cell in the optical frame, metres. NaN where the ground
            is not seen.
        class_map: uint8 `[rows, columns]`, the class of each cell.
    """

    points: Float32Array
    class_map: UInt8Array


class GroundGrid:
    """The points on the ground of all cells of a camera's image.

    Attributes:
        cells: The cells and their rays. Class maps must have the size of their calibration.
        points: float32 `[rows, columns, 3]` in the optical frame, metres. NaN where a cell shows no ground.
        rows_px: Rows of the image from which the classes of cells are taken.
        columns_px: Columns of the image from which the classes of cells are taken.
        count: Number of cells that show the ground.
        camera_info: The CameraInfo of images that have one pixel for each cell. None without one.

    Args:
        cells: The cells and their rays.
        pose: Pose of the camera in a frame whose z = 0 is the ground.
        range_max_m: Points that are farther from the origin of the frame are NaN.
        ignore_bottom_px: Cells with one of these rows at the bottom of the image are NaN.
        camera_info: The CameraInfo of images that have one pixel for each cell.
    """

    def __init__(
        self,
        cells: CellRays,
        pose: CameraPose,
        range_max_m: float,
        ignore_bottom_px: int = 0,
        camera_info: CameraInfoFields | None = None,
    ) -> None:
        self.cells = cells
        self.camera_info = camera_info
        self.points = _points_on_ground(cells.rays, pose, range_max_m).astype(np.float32)
        first_ignored = (cells.calibration.height - max(ignore_bottom_px, 0)) // cells.cell_px
        self.points[max(first_ignored, 0) :] = np.nan
        side, middle = cells.cell_px, cells.cell_px // 2
        last_row, last_column = cells.calibration.height - 1, cells.calibration.width - 1
        self.rows_px = range(min(middle, last_row), cells.rows * side, side)
        self.columns_px = range(min(middle, last_column), cells.columns * side, side)
        self._row_numbers = np.arange(cells.rows, dtype=np.int32)[:, None]
        self._columns = np.arange(cells.columns)
        self.count = int(np.isfinite(self.points[..., 2]).sum())
        self._nothing = np.full_like(self.points, np.nan)

    def misfit(self, class_map: UInt8Array) -> str:
        """Return one sentence if the size of a class map differs from the calibration's, else an empty string."""
        return self.cells.calibration.misfit(class_map)

    def cut(self, class_map: UInt8Array, boundary: Int32Array, unlabeled_id: int) -> GroundCut:
        """Cut the ground at the end of the free space.

        A cell is free if all of its pixels are below the boundary. The nearest cell that is not free keeps its point,
        and has the class that ends the free space, so that a costmap can mark the place. Cells above it are NaN, and
        so are unlabelled ones: the network has not seen them.

        Args:
            class_map: uint8 `[height, width]`.
            boundary: The boundary of the free space, int32 `[width]`, see `free_space_boundary`.
            unlabeled_id: Value of unlabelled pixels.

        Raises:
            ValueError: The class map has another size than the calibration.
        """
        if misfit := self.misfit(class_map):
            raise ValueError(misfit)
        side, rows, columns = self.cells.cell_px, self.cells.rows, self.cells.columns
        classes = np.ascontiguousarray(
            class_map[
                self.rows_px.start : self.rows_px.stop : side, self.columns_px.start : self.columns_px.stop : side
            ]
        )
        # The nearest of the boundaries of all columns of a cell ends its free space.
        width = min(side, len(boundary))
        strips = boundary[: columns * width].reshape(columns, width)
        nearest = strips.argmax(axis=1)
        ends_px = strips[self._columns, nearest]
        end_rows = np.minimum(ends_px // side, rows - 1)
        ended = np.flatnonzero(ends_px >= 0)
        classes[end_rows[ended], ended] = class_map[ends_px[ended], ended * side + nearest[ended]]
        hidden = self._row_numbers < end_rows
        hidden |= classes == unlabeled_id
        # Seven times as fast as NumPy's indices.
        points = cv2.copyTo(self._nothing, hidden.view(np.uint8), self.points.copy())
        return GroundCut(np.asarray(points, np.float32), classes)


def _points_on_ground(rays: Float64Array, pose: CameraPose, range_max_m: float) -> Float64Array:
    """Return where rays `[..., 2]` meet the ground, `[..., 3]` in the optical frame. NaN where they do not."""
    directions = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1)
    in_frame = directions @ np.array(pose.optical_from_frame)  # multiplied from the right: by the transposed matrix
    falls = in_frame[..., 2]
    with np.errstate(all="ignore"):
        depth = np.where(falls < -_LEAST_FALL, -pose.position[2] / falls, np.nan)
        places = np.array(pose.position[:2]) + depth[..., None] * in_frame[..., :2]
        depth = np.where(np.hypot(places[..., 0], places[..., 1]) <= range_max_m, depth, np.nan)
    return np.asarray(depth[..., None] * directions)
