"""Fit a frame into the network input and results back to the frame: letterbox or stretch.

The network may see a region of the frame instead of the whole: it is cropped first, and the results are put back in its
place. The node, replay, training and evaluation all use this implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from ros_kd_perception.structures import Float32Array, RegionOfInterest, UInt8Array


@dataclass(frozen=True)
class InputGeometry:
    """Where the region of interest of a source image lies in the network input.

    The region is at the top left and `placed_height` x `placed_width` pixels large. The rest is padding. A stretched
    region fills the whole input.

    Attributes:
        source_height: Rows of the whole source image.
        source_width: Columns of the whole source image.
        placed_height: Rows of the region in the network input.
        placed_width: Columns of the region in the network input.
        region: The region in the source image, with its extent. The whole image if nothing is cropped.
    """

    source_height: int
    source_width: int
    placed_height: int
    placed_width: int
    region: RegionOfInterest

    @property
    def is_cropped(self) -> bool:
        """Whether a part of the source image lies outside the region."""
        return (self.region.height, self.region.width) != (self.source_height, self.source_width)


def letterbox_geometry(
    source_height: int, source_width: int, height: int, width: int, region: RegionOfInterest | None = None
) -> InputGeometry:
    """Fit a region of a source image into the network input: scale = min(height / its height, width / its width).

    The placed size is rounded to whole pixels and is at least one pixel, also for a very thin region.

    Args:
        source_height: Rows of the source image.
        source_width: Columns of the source image.
        height: Rows of the network input.
        width: Columns of the network input.
        region: Region with an extent, within the image. None for the whole image.
    """
    region = region or RegionOfInterest(0, 0, source_width, source_height)
    scale = min(height / region.height, width / region.width)
    return InputGeometry(
        source_height,
        source_width,
        placed_height=max(1, min(height, round(region.height * scale))),
        placed_width=max(1, min(width, round(region.width * scale))),
        region=region,
    )


def letterbox(
    image_bgr: UInt8Array, out: UInt8Array, pad_value: int, region: RegionOfInterest | None = None
) -> InputGeometry:
    """Resize a region of an image into a network input without changing its aspect ratio.

    Place the image at the top left and fill the rest with `pad_value`. Use INTER_AREA to shrink and INTER_LINEAR to
    enlarge.

    Args:
        image_bgr: uint8 `[h, w, 3]`, any strides.
        out: uint8 `[H, W, 3]`, C-contiguous. It is overwritten, so that a caller can reuse one buffer.
        pad_value: Value of the padding, 0..255.
        region: Region with an extent, within the image. None for the whole image.
    """
    geometry = letterbox_geometry(image_bgr.shape[0], image_bgr.shape[1], out.shape[0], out.shape[1], region)
    rows, columns = geometry.placed_height, geometry.placed_width
    _resize_into(image_bgr[geometry.region.rows, geometry.region.columns], out[:rows, :columns])
    out[rows:] = pad_value
    out[:rows, columns:] = pad_value
    return geometry


def stretch_geometry(
    source_height: int, source_width: int, height: int, width: int, region: RegionOfInterest | None = None
) -> InputGeometry:
    """Fit a region of a source image into the whole network input. Arguments: those of `letterbox_geometry`."""
    region = region or RegionOfInterest(0, 0, source_width, source_height)
    return InputGeometry(source_height, source_width, height, width, region)


def stretch(image_bgr: UInt8Array, out: UInt8Array, region: RegionOfInterest | None = None) -> InputGeometry:
    """Resize a region of an image to the whole network input, each axis by its own ratio.

    Interpolation is that of `letterbox`.

    Args:
        image_bgr: uint8 `[h, w, 3]`, any strides.
        out: uint8 `[H, W, 3]`, C-contiguous. It is overwritten.
        region: Region with an extent, within the image. None for the whole image.
    """
    geometry = stretch_geometry(image_bgr.shape[0], image_bgr.shape[1], out.shape[0], out.shape[1], region)
    _resize_into(image_bgr[geometry.region.rows, geometry.region.columns], out)
    return geometry


def _resize_into(image_bgr: UInt8Array, out: UInt8Array) -> None:
    rows, columns = out.shape[:2]
    if image_bgr.shape[:2] == (rows, columns):
        out[:] = image_bgr
        return
    shrinks = rows * columns < image_bgr.shape[0] * image_bgr.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    cv2.resize(image_bgr, (columns, rows), dst=out, interpolation=interpolation)


def class_map_to_source(
    class_map: UInt8Array,
    stride: int,
    geometry: InputGeometry,
    out: UInt8Array | None = None,
    unlabeled_id: int = 255,
) -> UInt8Array:
    """Resize a class map to the source image: nearest cell, pixel centres aligned, padding cropped.

    Args:
        class_map: uint8 `[ceil(H/stride), ceil(W/stride)]` of the network input.
        stride: Side of one cell in network-input pixels.
        geometry: The return value of `letterbox` or `stretch`.
        out: uint8 `[source_height, source_width]`, C-contiguous, to overwrite. None allocates a new array.
        unlabeled_id: Value of the pixels outside the region of interest.

    Returns:
        uint8 `[source_height, source_width]`, C-contiguous.
    """
    region = geometry.region
    rows = _nearest_cells(region.height, geometry.placed_height, stride, class_map.shape[0])
    columns = _nearest_cells(region.width, geometry.placed_width, stride, class_map.shape[1])
    # Widen the columns first, while the map has few rows. Take them as rows of the transposed map, because `take`
    # copies whole rows at once but columns cell by cell. cv2's INTER_NEAREST rounds differently and cannot be used.
    widened = np.asarray(cv2.transpose(cv2.transpose(class_map).take(columns, axis=0)), np.uint8)
    # The indices are in range. The default mode "raise" would check them and work in a copy of `out`.
    if not geometry.is_cropped:
        return widened.take(rows, axis=0, out=out, mode="clip")
    if out is None:
        out = np.empty((geometry.source_height, geometry.source_width), np.uint8)
    _fill_outside(out, region, unlabeled_id)
    out[region.rows, region.columns] = widened.take(rows, axis=0, mode="clip")
    return out


def resized_class_map(class_map: UInt8Array, height: int, width: int) -> UInt8Array:
    """Resize a class map: each new pixel takes the old pixel nearest to its centre.

    Args:
        class_map: uint8 `[h, w]`.
        height: New number of rows.
        width: New number of columns.

    Returns:
        uint8 `[height, width]`, C-contiguous.
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip((height, width), class_map.shape, strict=True)
    )
    if height < class_map.shape[0]:
        return np.asarray(class_map.take(rows, axis=0).take(columns, axis=1), np.uint8)
    # Widen the columns as in `class_map_to_source`, for the same reasons.
    widened = np.asarray(cv2.transpose(cv2.transpose(class_map).take(columns, axis=0)), np.uint8)
    return np.asarray(widened.take(rows, axis=0), np.uint8)


def boxes_to_source(boxes_xyxy: Float32Array, geometry: InputGeometry) -> Float32Array:
    """Scale boxes `[n, 4]` from network-input to source pixels and clip them to the region of interest.

    Each axis has its own ratio, because the placed size is rounded to whole pixels.
    """
    region = geometry.region
    scale_x, scale_y = region.width / geometry.placed_width, region.height / geometry.placed_height
    boxes = boxes_xyxy * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    limit = np.array([region.width, region.height] * 2, np.float32)
    # Same result as np.clip without its Python overhead. NaN stays NaN.
    np.maximum(boxes, np.float32(0), out=boxes)
    np.minimum(boxes, limit, out=boxes)
    if geometry.is_cropped:
        boxes += np.array([region.x, region.y] * 2, np.float32)
    return boxes


def _fill_outside(class_map: UInt8Array, region: RegionOfInterest, value: int) -> None:
    # For every frame, because the memory may have held a frame of another region.
    rows, columns = region.rows, region.columns
    class_map[: rows.start] = value
    class_map[rows.stop :] = value
    class_map[rows, : columns.start] = value
    class_map[rows, columns.stop :] = value


@lru_cache(maxsize=16)  # cameras rarely change their size; an entry takes at most 128 KiB
def _nearest_cells(source_px: int, placed_px: int, stride: int, cells: int) -> npt.NDArray[np.intp]:
    centres = (np.arange(source_px) + 0.5) * (placed_px / source_px) / stride
    nearest = np.minimum(centres.astype(np.intp), cells - 1)
    nearest.flags.writeable = False  # the cache shares it between all frames of this size
    return nearest
