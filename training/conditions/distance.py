"""Distances in a frame without depth: a stand-in for what fog, rain and snow need.

The road is taken to be flat. A row below the horizon then has the distance h f / (row - horizon), with the height h of
the camera and its focal length f in pixels. Things that stand on the road keep the distance of their foot. Nothing
beyond is known of a frame, so height, focal length and horizon are those of a usual camera of a car.

With a mask, a region that reaches above the horizon stands: its foot is read in each column. One without a foot below
the horizon, such as the air above, is endlessly far. A small one that hangs is as far as what is around it. Without a
mask, a street has a wall to each side, and what is smooth and touches the upper edge of the picture is endlessly far.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.conditions.light import Light, blurred, brightness, to_light
from training.data.sample import Sample
from training.label_sets.label_set import UNLABELED_ID

CAMERA_HEIGHT_M = 1.5
FOCAL_SHARE = 0.8  # focal length as a share of the width: 64 degrees across
HORIZON_SHARE = 0.47  # row of the horizon as a share of the height, where no mask tells
WALL_M, WALL_HEIGHT_M = 9.0, 10.0  # distance to a side, and height, of the walls of a street without a mask
FARTHEST_M = 1e6  # "endlessly far", finite so that it can be computed with
_LABELED_SHARE_MIN = 0.5
_HANGING_SHARE_MAX = 0.02
_TEXTURE_MAX = 0.025  # standard deviation of the light in a small place
_ROAD_ROWS = 0.15  # the road is what the lowest rows show most

Mask = NDArray[np.uint8]


def focal_px(width: int) -> float:
    """Return the focal length of a usual camera, in pixels of a frame of this width."""
    return FOCAL_SHARE * width


def distances(sample: Sample) -> Light:
    """Return the distance of every pixel in metres, float32 (h, w), up to FARTHEST_M."""
    height, width = sample.mask.shape
    if (sample.mask != UNLABELED_ID).mean() < _LABELED_SHARE_MIN:
        horizon = HORIZON_SHARE * height
        found = _between_walls(height, width, horizon)
        found[_smooth_above(sample.image_bgr, horizon)] = FARTHEST_M
        return _with_boxes(found, sample.boxes_xyxy, None, horizon)
    mask = _filled(sample.mask)
    horizon = horizon_row(mask)
    found = np.repeat(_of_ground(np.arange(height) + 0.5, horizon, width)[:, None], width, axis=1)
    for region in _regions(mask, horizon):
        far = _around(region, found) if _hangs(region, horizon) else _of_feet(region, horizon)
        found = np.asarray(np.where(region, far, found), np.float32)
    return _with_boxes(found, sample.boxes_xyxy, mask, horizon)


def horizon_row(mask: Mask) -> float:
    """Return the row of the horizon: the end of the road in the mask, or HORIZON_SHARE where traffic hides it."""
    height, width = mask.shape
    lowest = mask[int((1 - _ROAD_ROWS) * height) :, width // 4 : max(width // 4 + 1, 3 * width // 4)]
    road = mask == np.bincount(lowest.ravel(), minlength=256).argmax()
    rows = np.flatnonzero(road.mean(axis=1) > 0.01)
    end = float(rows[0]) - 0.01 * height if len(rows) else height
    return float(np.clip(end, 0.25 * height, HORIZON_SHARE * height))


def _of_ground(rows: NDArray[np.floating[Any]], horizon: float, width: int) -> Light:
    """Return the distance of the road in some rows, metres."""
    below = np.maximum(rows - horizon, CAMERA_HEIGHT_M * focal_px(width) / FARTHEST_M)
    return np.asarray(CAMERA_HEIGHT_M * focal_px(width) / below, np.float32)


def _filled(mask: Mask) -> Mask:
    """Return a mask whose void pixels have the class of the nearest pixel with one."""
    void = (mask == UNLABELED_ID).astype(np.uint8)
    if not void.any():
        return mask
    _, nearest = cv2.distanceTransformWithLabels(void, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    class_of = np.zeros(int(nearest.max()) + 1, np.uint8)
    class_of[nearest[void == 0]] = mask[void == 0]
    return class_of[nearest]


def _regions(mask: Mask, horizon: float) -> list[NDArray[np.bool_]]:
    """Return the connected regions of one class that reach above the horizon, bool (h, w), the largest first."""
    height, width = mask.shape
    found = []
    for label in np.unique(mask).tolist():
        count, places, stats, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=8)
        for place in range(1, count):
            tall = stats[place, cv2.CC_STAT_TOP] < horizon - 0.02 * height
            if tall and stats[place, cv2.CC_STAT_AREA] > 1e-4 * height * width:
                found.append(places == place)
    return sorted(found, key=np.count_nonzero, reverse=True)


def _hangs(region: NDArray[np.bool_], horizon: float) -> bool:
    """Return whether a region is a small one in the air, such as a board on a post of another class."""
    small = np.count_nonzero(region) < _HANGING_SHARE_MAX * region.size
    return bool(small and not region[0].any() and not region[int(horizon) :].any())


def _around(region: NDArray[np.bool_], found: Light) -> float:
    """Return the median of the distances around a region."""
    wide = np.asarray(cv2.dilate(region.astype(np.uint8), np.ones((5, 5), np.uint8)), np.bool_)
    ring = found[wide & ~region]
    return float(np.median(ring)) if len(ring) else FARTHEST_M


def _of_feet(region: NDArray[np.bool_], horizon: float) -> Light:
    """Return the distance of a region that stands, float32 (1, w): that of the road at its foot, by columns.

    The foot of a column may be hidden behind something nearer. A neighbour that reaches lower then counts.
    """
    height, width = region.shape
    lowest = np.where(region.any(axis=0), height - np.argmax(region[::-1], axis=0), 0).astype(np.float32)
    side = max(1, round(0.06 * width))
    lowest = np.asarray(cv2.dilate(lowest[None], np.ones((1, 2 * side + 1), np.uint8)), np.float32)[0]
    standing = np.flatnonzero(lowest > horizon + 0.01 * height)
    if not len(standing):
        return np.full((1, width), FARTHEST_M, np.float32)
    feet = np.interp(np.arange(width), standing, lowest[standing]).astype(np.float32)
    feet = blurred(feet[None], 0.03 * width)[0]  # a step from column to column would show in the picture
    return _of_ground(feet, horizon, width)[None]


def _between_walls(height: int, width: int, horizon: float) -> Light:
    """Return distances in a street with a wall to each side, float32 (h, w)."""
    rows, columns = np.arange(height) + 0.5, np.abs(np.arange(width) + 0.5 - width / 2)
    walls = np.asarray(WALL_M * focal_px(width) / np.maximum(columns, 1), np.float32)[None]
    ground = _of_ground(rows, horizon, width)[:, None]
    up_m = CAMERA_HEIGHT_M + np.maximum(horizon - rows, 0)[:, None] * walls / focal_px(width)
    # Beyond its height a wall steps back more and more: an edge at one height would show in the picture.
    return np.asarray(np.minimum(ground, walls * (1 + (up_m / WALL_HEIGHT_M) ** 2)), np.float32)


def _smooth_above(image_bgr: NDArray[np.uint8], horizon: float) -> NDArray[np.bool_]:
    """Return the bright regions without texture that touch the upper edge of a picture, bool (h, w)."""
    height, width = image_bgr.shape[:2]
    light = brightness(to_light(image_bgr))
    around = blurred(light, 0.004 * width)
    texture = np.sqrt(blurred((light - around) ** 2, 0.004 * width))
    smooth = (texture < _TEXTURE_MAX) & (around > np.median(around))
    smooth[int(horizon) :] = False
    _, places = cv2.connectedComponents(smooth.astype(np.uint8))
    found = np.isin(places, np.setdiff1d(places[: max(1, height // 50)], [0]))
    # The texture is one of a place, so that it ends before the edge of what stands in front.
    side = 2 * round(0.008 * width) + 1
    return np.asarray(cv2.dilate(found.astype(np.uint8), np.ones((side, side), np.uint8)), np.bool_)


def _with_boxes(found: Light, boxes_xyxy: NDArray[np.float32], mask: Mask | None, horizon: float) -> Light:
    """Return distances with every object at that of its foot, the far ones first."""
    height, width = found.shape
    for left, top, right, bottom in sorted(boxes_xyxy.tolist(), key=lambda box: float(box[3])):
        if bottom <= horizon + 0.01 * height:
            continue
        x0, y0, x1, y1 = round(left), round(top), max(round(left) + 1, round(right)), max(round(top) + 1, round(bottom))
        part = found[y0:y1, x0:x1]
        if mask is None:
            inside = _ellipse(*part.shape)
        else:
            seen = mask[y0:y1, x0:x1]
            middle = seen[len(seen) // 4 : max(len(seen) // 4 + 1, 3 * len(seen) // 4)]
            inside = seen == np.bincount(middle.ravel(), minlength=256).argmax()
        part[inside] = _of_ground(np.array([min(bottom, height - 1.0)]), horizon, width)[0]
    return found


def _ellipse(height: int, width: int) -> NDArray[np.bool_]:
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    return np.asarray(np.abs(rows) ** 4 + np.abs(columns) ** 4 <= 1)
