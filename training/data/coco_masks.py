"""Masks from the annotations of COCO: panoptic PNG files, polygons and run lengths.

Run lengths go down the columns, first pixels that are off. As text, each count takes characters of five bits from the
lowest on, from the third count as the difference from the count before the last (github.com/cocodataset/cocoapi,
common/maskApi.c, rleFrString).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from faster_coco_eval import mask as coco_mask
from numpy.typing import NDArray

from training.data.image_files import read_image
from training.errors import DataError
from training.label_sets.label_set import UNLABELED_ID

_LONGEST_COUNT_BITS = 40


def read_panoptic_mask(path: Path, segments: Mapping[int, int], name: str) -> NDArray[np.uint16]:
    """Return the category of each pixel, uint16 (h, w); 255 where no segment is.

    Args:
        path: PNG in colours, in which a pixel has the segment id red + 256 green + 65536 blue; 0 is no segment.
        segments: Category of each segment id.
        name: Frame, for errors.

    Raises:
        DataError: The file cannot be read, or holds segments that the annotations lack.
    """
    blue, green, red = (channel.astype(np.uint32) for channel in cv2.split(read_image(path)))
    ids, places = np.unique(red + 256 * green + 65536 * blue, return_inverse=True)
    unknown = [number for number in ids.tolist() if number and number not in segments]
    if unknown:
        raise DataError(
            f"{path}: expected the segments that the annotations list for {name}, got {unknown[:5]} too; the file and "
            "the annotations must be of one export"
        )
    table = np.array([segments.get(number, UNLABELED_ID) for number in ids.tolist()], np.uint16)
    mask: NDArray[np.uint16] = table[places].reshape(red.shape)
    return mask


def draw_shapes(shapes: Sequence[tuple[int, Any]], size: tuple[int, ...], where: str) -> NDArray[np.uint16]:
    """Return the category of each pixel, uint16 (h, w); 255 where no object is. Small objects lie over large ones.

    Args:
        shapes: Category id, and polygons or run lengths, of each object.
        size: Height and width of the image.
        where: Begins errors.

    Raises:
        DataError: A shape is not valid.
    """
    areas_and_runs = [(category, *_runs_of(shape, size, where)) for category, shape in shapes]
    mask = np.full(size, UNLABELED_ID, np.uint16)
    for category, _, runs in sorted(areas_and_runs, key=lambda drawn: -drawn[1]):
        on = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask[on.reshape(size[1], size[0]).T] = category
    return mask


def _runs_of(shape: Any, size: tuple[int, ...], where: str) -> tuple[int, list[int]]:
    """Return the area of an object in pixels, and its run lengths."""
    runs = _checked_runs(shape, size, where) if isinstance(shape, dict) else _runs_of_polygons(shape, size, where)
    return sum(runs[1::2]), runs


def _runs_of_polygons(polygons: Any, size: tuple[int, ...], where: str) -> list[int]:
    height, width = size
    try:
        corners = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in polygons]
        if not corners or not all(len(one) >= 3 and np.isfinite(one).all() for one in corners):
            raise ValueError
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: expected a segmentation of polygons with at least three corners x, y each, got "
            f"{repr(polygons)[:80]}; correct it"
        ) from None
    inside = [np.clip(one, 0, (width, height)).ravel().tolist() for one in corners]
    merged = coco_mask.merge(coco_mask.frPyObjects(inside, height, width))
    return _runs_of_text(merged["counts"].decode())


def _checked_runs(shape: Mapping[str, Any], size: tuple[int, ...], where: str) -> list[int]:
    counts = shape.get("counts")
    runs = _runs_of_text(counts) if isinstance(counts, str) else counts
    whole = (
        isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs) and sum(runs) == size[0] * size[1]
    )
    if shape.get("size") != list(size) or not isinstance(runs, list) or not whole:
        raise DataError(
            f"{where}: expected run lengths of its image, size {list(size)} and {size[0] * size[1]} pixels in all, got "
            f"{repr(dict(shape))[:80]}; export the file again"
        )
    return runs


def _runs_of_text(text: str) -> list[int]:
    """Return the counts of run lengths written as text; empty if it is not such text."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _LONGEST_COUNT_BITS:
            return []
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:  # a negative number
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs
