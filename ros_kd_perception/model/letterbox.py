"""Fit a frame into the network input and results back to the frame: letterbox or stretch.

The node, replay, training and evaluation all use this implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from ros_kd_perception.structures import Float32Array, UInt8Array


@dataclass(frozen=True)
class InputGeometry:
    """Where a source image lies in the network input.

    The image is at the top left and `placed_height` x `placed_width` pixels large. The rest is padding. A stretched
    image fills the whole input.
    """

    source_height: int
    source_width: int
    placed_height: int
    placed_width: int


def letterbox_geometry(source_height: int, source_width: int, height: int, width: int) -> InputGeometry:
    """Fit a source image into the network input: scale = min(height / source_height, width / source_width).

    The placed size is rounded to whole pixels and is at least one pixel, also for a very thin image.
    """
    scale = min(height / source_height, width / source_width)
    return InputGeometry(
        source_height,
        source_width,
        placed_height=max(1, min(height, round(source_height * scale))),
        placed_width=max(1, min(width, round(source_width * scale))),
    )


def letterbox(image_bgr: UInt8Array, out: UInt8Array, pad_value: int) -> InputGeometry:
    """Resize an image into a network input without changing its aspect ratio.

    Place the image at the top left and fill the rest with `pad_value`. Use INTER_AREA to shrink and INTER_LINEAR to
    enlarge.

    Args:
        image_bgr: uint8 `[h, w, 3]`, any strides.
        out: uint8 `[H, W, 3]`, C-contiguous. It is overwritten, so that a caller can reuse one buffer.
        pad_value: Value of the padding, 0..255.
    """
    geometry = letterbox_geometry(image_bgr.shape[0], image_bgr.shape[1], out.shape[0], out.shape[1])
    rows, columns = geometry.placed_height, geometry.placed_width
    _resize_into(image_bgr, out[:rows, :columns])
    out[rows:] = pad_value
    out[:rows, columns:] = pad_value
    return geometry


def stretch(image_bgr: UInt8Array, out: UInt8Array) -> InputGeometry:
    """Resize an image to the whole network input, each axis by its own ratio. Interpolation is that of `letterbox`.

    Args:
        image_bgr: uint8 `[h, w, 3]`, any strides.
        out: uint8 `[H, W, 3]`, C-contiguous. It is overwritten.
    """
    _resize_into(image_bgr, out)
    return InputGeometry(*image_bgr.shape[:2], *out.shape[:2])


def _resize_into(image_bgr: UInt8Array, out: UInt8Array) -> None:
    rows, columns = out.shape[:2]
    if image_bgr.shape[:2] == (rows, columns):
        out[:] = image_bgr
        return
    shrinks = rows * columns < image_bgr.shape[0] * image_bgr.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    cv2.resize(image_bgr, (columns, rows), dst=out, interpolation=interpolation)


def class_map_to_source(
    class_map: UInt8Array, stride: int, geometry: InputGeometry, out: UInt8Array | None = None
) -> UInt8Array:
    """Resize a class map to the source image: nearest cell, pixel centres aligned, padding cropped.

    Args:
        class_map: uint8 `[ceil(H/stride), ceil(W/stride)]` of the network input.
        stride: Side of one cell in network-input pixels.
        geometry: The return value of `letterbox` or `stretch`.
        out: uint8 `[source_height, source_width]`, C-contiguous, to overwrite. None allocates a new array.

    Returns:
        uint8 `[source_height, source_width]`, C-contiguous.
    """
    rows = _nearest_cells(geometry.source_height, geometry.placed_height, stride, class_map.shape[0])
    columns = _nearest_cells(geometry.source_width, geometry.placed_width, stride, class_map.shape[1])
    # Widen the columns first, while the map has few rows. Take them as rows of the transposed map, because `take`
    # copies whole rows at once but columns cell by cell. cv2's INTER_NEAREST rounds differently and cannot be used.
    widened = cv2.transpose(cv2.transpose(class_map).take(columns, axis=0))
    # The indices are in range. The default mode "raise" would check them and work in a copy of `out`.
    return np.asarray(widened, np.uint8).take(rows, axis=0, out=out, mode="clip")


def boxes_to_source(boxes_xyxy: Float32Array, geometry: InputGeometry) -> Float32Array:
    """Scale boxes `[n, 4]` from network-input to source pixels and clip them to the image.

    Each axis has its own ratio, because the placed size is rounded to whole pixels.
    """
    scale_x = geometry.source_width / geometry.placed_width
    scale_y = geometry.source_height / geometry.placed_height
    boxes = boxes_xyxy * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    limit = np.array([geometry.source_width, geometry.source_height] * 2, np.float32)
    # Same result as np.clip without its Python overhead. NaN stays NaN.
    np.maximum(boxes, np.float32(0), out=boxes)
    return np.minimum(boxes, limit, out=boxes)


@lru_cache(maxsize=16)  # cameras rarely change their size; an entry takes at most 128 KiB
def _nearest_cells(source_px: int, placed_px: int, stride: int, cells: int) -> npt.NDArray[np.intp]:
    centres = (np.arange(source_px) + 0.5) * (placed_px / source_px) / stride
    nearest = np.minimum(centres.astype(np.intp), cells - 1)
    nearest.flags.writeable = False  # the cache shares it between all frames of this size
    return nearest
