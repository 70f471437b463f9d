"""Paint the sky and the skyline on the horizon."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ros_kd_perception.sample_drive.camera import Array
from ros_kd_perception.sample_drive.canvas.canvas import Canvas
from ros_kd_perception.sample_drive.canvas.noise import seamless_noise
from ros_kd_perception.sample_drive.canvas.shapes import scaled
from ros_kd_perception.sample_drive.classes import BUILDING, SKY, TREE
from ros_kd_perception.sample_drive.street.weather import Weather

_TILE_PX = 512


class SkyPainter:
    """Paints the clouds and the skyline of one world."""

    def __init__(self, weather: Weather, rng: np.random.Generator) -> None:
        self.weather = weather
        self.clouds: Any = seamless_noise(rng, _TILE_PX, 5, 6)
        self.skyline = [self._ring(rng) for _ in range(2)]
        self.tree_bgr = scaled((58, 84, 76), float(rng.uniform(0.6, 1.2)))
        self.house_bgr = scaled((104, 112, 120), float(rng.uniform(0.6, 1.2)))

    @staticmethod
    def _ring(rng: np.random.Generator) -> Array:
        heights = np.abs(np.cumsum(rng.normal(0, 1.2, 144)) * 0.6 + rng.normal(0, 1.6, 144))
        return np.asarray(np.clip(heights - heights.mean() + rng.uniform(5, 9), 1.5, 20))

    def paint(self, canvas: Canvas, time_s: float) -> None:
        """Fill the whole image with sky, then put the skyline on the horizon."""
        canvas.ids[:] = SKY + 1
        camera, to_world = canvas.camera, canvas.pose.rotation.T
        # Clouds and gradients are soft: a quarter of the resolution is enough.
        width, height = camera.width_px // 4 + 1, camera.height_px // 4 + 1
        matrix = camera.intrinsic_matrix
        columns = ((np.arange(width) * 4 - matrix[0, 2]) / camera.focal_px).astype(np.float32)
        rows = ((np.arange(height) * 4 - matrix[1, 2]) / camera.focal_px).astype(np.float32)
        directions = [
            (columns[None] * np.float32(to_world[axis, 0]) + rows[:, None] * np.float32(to_world[axis, 1])
             + np.float32(to_world[axis, 2]))
            for axis in range(3)
        ]  # fmt: skip
        length = np.sqrt(directions[0] ** 2 + directions[1] ** 2 + directions[2] ** 2)
        x, y, up = (direction / length for direction in directions)
        picture = self._colors(x, y, up, time_s)
        grown: Any = cv2.resize(picture, (width * 4, height * 4), interpolation=cv2.INTER_LINEAR)
        canvas.image_bgr[:] = grown[: camera.height_px, : camera.width_px].clip(0, 255).astype(np.uint8)
        self._skyline(canvas)

    def _colors(self, x: Any, y: Any, up: Any, time_s: float) -> Any:
        weather = self.weather
        rise = np.clip(up / 0.75, 0.0, 1.0) ** np.float32(0.6)
        zenith, horizon = np.array(weather.zenith_bgr, np.float32), np.array(weather.horizon_bgr, np.float32)
        picture = horizon + (zenith - horizon) * rise[..., None]
        if weather.cloud_share > 0:
            reach = np.float32(90.0) / np.maximum(up, np.float32(0.06))
            density = cv2.remap(
                self.clouds,
                x * reach + np.float32(time_s * 1.5),
                y * reach,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_WRAP,
            )
            cover = np.clip((density + np.float32(weather.cloud_share * 1.3 - 0.75)) * 2.2, 0, 1)
            cover *= np.clip(up * 9, 0, 1)
            shade = np.float32(0.9) + np.float32(0.16) * density
            cloud = np.array(weather.cloud_bgr, np.float32) * shade[..., None]
            picture += (cloud - picture) * cover[..., None]
        if weather.glare > 0:
            towards = weather.to_sun.astype(np.float32)
            angle = np.clip(x * towards[0] + y * towards[1] + up * towards[2], 0, 1)
            glow = weather.glare * (0.5 * angle**12 + 0.6 * angle**90 + angle**900)
            picture += np.array([150, 200, 235], np.float32) * glow[..., None].astype(np.float32)
        return picture.astype(np.float32)

    def _skyline(self, canvas: Canvas) -> None:
        centre = canvas.pose.position * np.array([1.0, 1.0, 0.0])
        gain = self.weather.sky_gain + 0.4 * self.weather.sun_gain
        for heights, color, class_id, reach in (
            (self.skyline[0], self.house_bgr, BUILDING, 420.0),
            (self.skyline[1], self.tree_bgr, TREE, 380.0),
        ):
            angles = np.linspace(0, 2 * np.pi, len(heights) + 1)
            for index in range(len(heights)):
                a, b = angles[index], angles[index + 1] + 0.004
                left = centre + reach * np.array([np.cos(a), np.sin(a), 0.0])
                right = centre + reach * np.array([np.cos(b), np.sin(b), 0.0])
                nearness = canvas.pose.to_camera(left[None])[0]
                if nearness[2] < 50 or abs(nearness[0]) > 3 * nearness[2]:
                    continue
                tall = np.array([0.0, 0.0, heights[index]])
                tall_next = np.array([0.0, 0.0, heights[(index + 1) % len(heights)]]) if class_id == TREE else tall
                base = np.array([0.0, 0.0, -4.0])
                quad = canvas.pose.to_camera(np.array([left + base, right + base, right + tall_next, left + tall]))
                canvas.ground_polygon(quad, scaled(color, gain), class_id + 1)
