"""Combine the pictures of several cameras into one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ros_kd_perception.structures import UInt8Array

TILE_HEIGHT, TILE_WIDTH = 360, 640
BACKGROUND_BGR = (28, 24, 22)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE = (255, 255, 255)
_RED_BGR = (60, 60, 230)


def left_to_right(cameras: Iterable[str]) -> list[str]:
    """Order cameras from left to right by "left" and "right" in their names."""
    return sorted(cameras, key=lambda camera: ("right" in camera) - ("left" in camera))


@dataclass(frozen=True)
class Tile:
    """Place of a camera's picture, in pixels of the mosaic."""

    left: int
    top: int
    width: int
    height: int

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """Return the largest (height, width) with the image's aspect ratio that fits into the tile."""
        scale = min(self.height / height, self.width / width)
        return max(1, min(self.height, round(height * scale))), max(1, min(self.width, round(width * scale)))


class Mosaic:
    """A canvas with a tile for each camera. A tile keeps its picture until the next one.

    One camera fills the canvas. With three cameras, the front camera is large and the other two are below it. Any other
    number is arranged in a grid.

    Args:
        cameras: Names of the cameras, in the order of their tiles.

    Attributes:
        ahead: The front camera by its name; the first camera if no name has "front" or "center".
        tiles: Tile of each camera.
        canvas_bgr: The picture, uint8 `[height, width, 3]`.
    """

    def __init__(self, cameras: Sequence[str]) -> None:
        fronts = [camera for camera in cameras if "front" in camera or "center" in camera]
        straight = [camera for camera in fronts if "left" not in camera and "right" not in camera]
        ahead = next(iter([*straight, *fronts, *cameras]))
        self.ahead = ahead
        large = Tile(0, 0, 2 * TILE_WIDTH, 2 * TILE_HEIGHT)
        if len(cameras) == 1:
            self.tiles = {cameras[0]: large}
        elif len(cameras) == 3:
            below = [camera for camera in cameras if camera != ahead]
            self.tiles = {ahead: large} | {
                camera: Tile(column * TILE_WIDTH, 2 * TILE_HEIGHT, TILE_WIDTH, TILE_HEIGHT)
                for column, camera in enumerate(below)
            }
        else:
            columns = math.ceil(math.sqrt(len(cameras)))
            self.tiles = {
                camera: Tile(index % columns * TILE_WIDTH, index // columns * TILE_HEIGHT, TILE_WIDTH, TILE_HEIGHT)
                for index, camera in enumerate(cameras)
            }
        height = max(tile.top + tile.height for tile in self.tiles.values())
        width = max(tile.left + tile.width for tile in self.tiles.values())
        self.canvas_bgr: UInt8Array = np.full((height, width, 3), BACKGROUND_BGR, np.uint8)

    def put(self, camera: str, picture_bgr: UInt8Array, caption: str, *, missing: bool = False) -> None:
        """Draw a picture into its camera's tile, resized to fit and centred.

        Args:
            camera: Name of the camera.
            picture_bgr: uint8 `[height, width, 3]`.
            caption: Line of text in the upper left corner.
            missing: Whether to draw a red border, for a picture without a result.
        """
        tile = self.tiles[camera]
        height, width = tile.fit(*picture_bgr.shape[:2])
        if picture_bgr.shape[:2] != (height, width):
            picture_bgr = shrink(picture_bgr, height, width)
        area = self.canvas_bgr[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        area[:] = BACKGROUND_BGR
        top, left = (tile.height - height) // 2, (tile.width - width) // 2
        area[top : top + height, left : left + width] = picture_bgr
        write_caption(area, caption)
        if missing:
            cv2.rectangle(area, (1, 1), (tile.width - 2, tile.height - 2), _RED_BGR, 3)


def shrink(image_bgr: UInt8Array, height: int, width: int) -> UInt8Array:
    """Resize an image. Shrinking averages over the covered area."""
    smaller = height < image_bgr.shape[0]
    resized = cv2.resize(image_bgr, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def write_caption(area: UInt8Array, caption: str) -> None:
    """Write a line of text on a darkened plate in the upper left corner of a picture, uint8 `[height, width, 3]`."""
    size = 0.5 if area.shape[0] <= TILE_HEIGHT else 0.65
    (width, height), baseline = cv2.getTextSize(caption, _FONT, size, 1)
    plate = area[: height + 2 * baseline, : width + 2 * baseline]
    plate[:] = plate // 3
    cv2.putText(area, caption, (baseline, height + baseline), _FONT, size, _WHITE, 1, cv2.LINE_AA)
