"""Paint the ground of a frame: flat patches, then grain, wear, puddles and shadows for every pixel."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array
from ros_kd_perception.sample_drive.canvas.canvas import NEAR_M, Canvas
from ros_kd_perception.sample_drive.canvas.noise import seamless_noise
from ros_kd_perception.sample_drive.classes import PAVEMENT, ROAD
from ros_kd_perception.sample_drive.street.world import World

_FINE_TILE_M, _COARSE_TILE_M = 6.0, 48.0
_TILE_PX = 512


class GroundPainter:
    """Paints the ground of one world, near and far."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world = world
        self.points, self.starts = world.patches.packed()
        grain = 0.6 * seamless_noise(rng, _TILE_PX, 128, 2) + 0.4 * seamless_noise(rng, _TILE_PX, 8, 4)
        self.coarse: Any = seamless_noise(rng, _TILE_PX, 12, 5)
        slabs = seamless_noise(rng, _TILE_PX, 16, 4) * 0.5
        pitch = int(_TILE_PX / _FINE_TILE_M * rng.choice([0.5, 0.6, 0.75]))
        pitch = max(_TILE_PX // max(round(_TILE_PX / pitch), 1), 8)
        slabs[::pitch] -= 0.8
        slabs[1::pitch] -= 0.5
        slabs[:, ::pitch] -= 0.6
        self.detail: Any = cv2.merge([grain.astype(np.float32), slabs.astype(np.float32)])
        self.contrast = float(rng.uniform(0.08, 0.2))
        light = world.weather.light
        self.gain = light.gain(np.array([0.0, 0.0, 1.0]))
        self.shadow_gain = light.sky_gain / max(self.gain, 1e-6)
        self.wheel_tracks = float(rng.uniform(-0.1, 0.06))

    def paint(self, canvas: Canvas, shadows: list[tuple[Array, float]]) -> NDArray[np.float32]:
        """Paint patches, grain and shadows (polygons (n, 3) with a strength 0..1); return 1 / depth of the ground.

        The returned float32 (h, w) is 0 above the horizon.
        """
        self._patches(canvas)
        nearness, top = _ground_nearness(canvas)
        if top < canvas.camera.height_px:
            gain = self._grain(canvas, nearness, top) * self.gain
            gain *= self._shadow(canvas, shadows, top)
            rows = canvas.image_bgr[top:]
            tripled: Any = cv2.merge([gain, gain, gain])
            rows[:] = cv2.multiply(rows, tripled, dtype=cv2.CV_8U)
        return nearness

    def _patches(self, canvas: Canvas) -> None:
        points = canvas.pose.to_camera(self.points)
        visible_from = np.maximum.reduceat(points[:, 2], self.starts[:-1]) > NEAR_M
        patches = self.world.patches
        for index in np.flatnonzero(visible_from):
            polygon = points[self.starts[index] : self.starts[index + 1]]
            canvas.ground_polygon(polygon, patches.colors_bgr[index], patches.class_ids[index] + 1)

    def _grain(self, canvas: Canvas, nearness: NDArray[np.float32], top: int) -> NDArray[np.float32]:
        """Return how much lighter or darker each pixel's spot on the ground is than its patch."""
        x, y, depth = _ground_places(canvas, nearness, top)
        both = _lookup(self.detail, x, y, _FINE_TILE_M)
        # Blotches are soft: a quarter of the pixels is enough.
        quarter = _lookup(
            self.coarse, np.ascontiguousarray(x[::2, ::2]), np.ascontiguousarray(y[::2, ::2]), _COARSE_TILE_M
        )
        coarse = np.asarray(cv2.resize(quarter, (x.shape[1], x.shape[0])), np.float32)
        is_pavement = canvas.ids[top:] == PAVEMENT + 1
        detail = np.where(is_pavement, both[..., 1], both[..., 0])
        # Grain finer than a pixel averages out; fade it before it turns into shimmer.
        fade = np.clip(canvas.camera.focal_px / (55.0 * depth), 0.0, 1.0)
        gain = 1.0 + self.contrast * detail * fade + self.contrast * 1.1 * coarse
        wet = self.world.weather.wetness
        if wet > 0:
            is_road = canvas.ids[top:] == ROAD + 1
            puddles = np.clip(coarse * 2.5 + 0.2, 0.0, 1.0) * np.float32(0.5 * wet)
            gain = np.where(is_road, gain * np.float32(1 - 0.25 * wet) + puddles * np.clip(depth / 30, 0.15, 1), gain)
        return np.asarray(gain, np.float32)

    def _shadow(self, canvas: Canvas, shadows: list[tuple[Array, float]], top: int) -> NDArray[np.float32]:
        """Return the light that is left in the shadows, float32 (rows, w)."""
        shade = np.zeros((canvas.camera.height_px - top, canvas.camera.width_px), np.uint8)
        offset = np.array([0.0, top])
        for polygon, strength in shadows:
            points_px = canvas.project(canvas.pose.to_camera(polygon))
            if len(points_px) < 3:
                continue
            corners = np.rint((np.clip(points_px, -30000, 30000) - offset) * 16).astype(np.int32)
            cv2.fillPoly(shade, [corners], int(255 * strength), cv2.LINE_AA, 4)
        soft: Any = cv2.blur(shade, (7, 5))
        return np.asarray(1.0 - soft.astype(np.float32) / 255, np.float32)


def _rays(canvas: Canvas) -> tuple[Array, Array, Array]:
    """World direction of a pixel's ray as (per column (w, 3), per row (h, 3), constant (3,)), for depth 1."""
    camera, to_world = canvas.camera, canvas.pose.rotation.T
    matrix = camera.intrinsic_matrix
    columns = (np.arange(camera.width_px) - matrix[0, 2]) / camera.focal_px
    rows = (np.arange(camera.height_px) - matrix[1, 2]) / camera.focal_px
    return np.outer(columns, to_world[:, 0]), np.outer(rows, to_world[:, 1]), to_world[:, 2]


def _ground_nearness(canvas: Canvas) -> tuple[NDArray[np.float32], int]:
    columns, rows, ahead = _rays(canvas)
    down = -(np.add.outer(rows[:, 2] + ahead[2], columns[:, 2])).astype(np.float32)
    nearness = np.maximum(down / np.float32(canvas.pose.position[2]), 0.0)
    hit = np.flatnonzero(nearness.max(axis=1) > 1e-4)
    top = int(hit[0]) if len(hit) else canvas.camera.height_px
    return np.asarray(nearness, np.float32), top


def _ground_places(
    canvas: Canvas, nearness: NDArray[np.float32], top: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    columns, rows, ahead = _rays(canvas)
    depth = (1.0 / np.maximum(nearness[top:], 1e-3)).astype(np.float32)
    places = []
    for axis in (0, 1):
        across = columns[:, axis].astype(np.float32)
        down = (rows[top:, axis] + ahead[axis]).astype(np.float32)
        places.append(np.float32(canvas.pose.position[axis]) + depth * (down[:, None] + across[None]))
    return places[0], places[1], depth


def _lookup(tile: Any, x: NDArray[np.float32], y: NDArray[np.float32], tile_m: float) -> NDArray[np.float32]:
    scale = np.float32(_TILE_PX / tile_m)
    found: Any = cv2.remap(tile, x * scale, y * scale, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(found, np.float32)
