"""Letterbox and its inverse: the one implementation that the node, replay, training and evaluation share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from ros_kd_perception.structures import Float32Array, UInt8Array


@dataclass(frozen=True)
class LetterboxGeometry:
    """Where a source image lies in the network input: top left, `placed_*` px large, the rest padding."""

    source_height: int
    source_width: int
    placed_height: int
    placed_width: int


def letterbox_geometry(source_height: int, source_width: int, height: int, width: int) -> LetterboxGeometry:
    """Fit a source image into the network input: scale = min(height / source_height, width / source_width).

    The placed size is rounded to whole pixels and at least one, so that a sliver of an image still has a place.
    """
    scale = min(height / source_height, width / source_width)
    return LetterboxGeometry(
        source_height,
        source_width,
        placed_height=max(1, min(height, round(source_height * scale))),
        placed_width=max(1, min(width, round(source_width * scale))),
    )


def letterbox(image_bgr: UInt8Array, out: UInt8Array, pad_value: int) -> LetterboxGeometry:
    """Shrink or grow an image into a network input, keeping its shape.

    INTER_AREA when it shrinks, INTER_LINEAR when it grows; placed top left, the rest filled with `pad_value`.

    Args:
        image_bgr: uint8 `[h, w, 3]`, any strides.
        out: uint8 `[H, W, 3]`, C-contiguous, overwritten; the node reuses one buffer for each camera turn.
        pad_value: 0..255.
    """
    geometry = letterbox_geometry(image_bgr.shape[0], image_bgr.shape[1], out.shape[0], out.shape[1])
    rows, columns = geometry.placed_height, geometry.placed_width
    placed = out[:rows, :columns]
    if (rows, columns) == image_bgr.shape[:2]:
        placed[:] = image_bgr
    else:
        shrinks = rows * columns < image_bgr.shape[0] * image_bgr.shape[1]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        cv2.resize(image_bgr, (columns, rows), dst=placed, interpolation=interpolation)
    out[rows:] = pad_value
    out[:rows, columns:] = pad_value
    return geometry


def class_map_to_source(
    class_map: UInt8Array, stride: int, geometry: LetterboxGeometry, out: UInt8Array | None = None
) -> UInt8Array:
    """Bring a class map back to the source image: nearest cell, pixel centres aligned, padding cropped.

    Args:
        class_map: uint8 `[H/stride, W/stride]` of the network input.
        stride: network-input pixels a cell, each way.
        geometry: as `letterbox` returned it.
        out: uint8 `[source_height, source_width]`, C-contiguous, to be overwritten; None: a new one.

    Returns:
        uint8 `[source_height, source_width]`, C-contiguous.
    """
    rows = _nearest_cells(geometry.source_height, geometry.placed_height, stride, class_map.shape[0])
    columns = _nearest_cells(geometry.source_width, geometry.placed_width, stride, class_map.shape[1])
    # Columns first: the intermediate then has few rows. Those are taken as rows of the transposed map, because `take`
    # copies a row at once and columns cell by cell. cv2's INTER_NEAREST rounds differently.
    widened = cv2.transpose(cv2.transpose(class_map).take(columns, axis=0))
    # The indices are in range; "raise" would check them in a copy of `out`.
    return np.asarray(widened, np.uint8).take(rows, axis=0, out=out, mode="clip")


def boxes_to_source(boxes_xyxy: Float32Array, geometry: LetterboxGeometry) -> Float32Array:
    """Scale boxes `[n, 4]` from network-input to source pixels, each axis by its own ratio, clipped to the image."""
    scale_x = geometry.source_width / geometry.placed_width
    scale_y = geometry.source_height / geometry.placed_height
    boxes = boxes_xyxy * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    limit = np.array([geometry.source_width, geometry.source_height] * 2, np.float32)
    # What np.clip does, without its detour through Python; NaN stays NaN.
    np.maximum(boxes, np.float32(0), out=boxes)
    return np.minimum(boxes, limit, out=boxes)


@lru_cache(maxsize=16)  # cameras seldom change their size, and each entry is at most 128 KiB
def _nearest_cells(source_px: int, placed_px: int, stride: int, cells: int) -> npt.NDArray[np.intp]:
    centres = (np.arange(source_px) + 0.5) * (placed_px / source_px) / stride
    nearest = np.minimum(centres.astype(np.intp), cells - 1)
    nearest.flags.writeable = False  # shared by every frame of this size
    return nearest
