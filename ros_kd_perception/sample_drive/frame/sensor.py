"""Apply the effects of air, lens and sensor to a painted frame."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array, CameraModel, CameraPose
from ros_kd_perception.sample_drive.street.weather import Weather

Image = NDArray[np.uint8]


def through_air(image_bgr: Image, nearness: NDArray[np.float32], is_sky: NDArray[np.bool_], weather: Weather) -> Image:
    """Fade objects into the colour of the horizon with their distance (Koschmieder's law).

    Args:
        image_bgr: uint8 (h, w, 3).
        nearness: 1 / depth, float32 (h, w), 1/m.
        is_sky: Pixels that show the sky, whose colour already contains the haze; bool (h, w).
        weather: Gives the extinction per metre and the colour of the air.
    """
    left = np.exp(np.float32(-weather.haze_per_m) / np.maximum(nearness, np.float32(1 / 400)))
    left[is_sky] = 1.0
    air = np.empty_like(image_bgr)
    air[:] = np.rint(np.clip(weather.horizon_bgr, 0, 255)).astype(np.uint8)
    return np.asarray(cv2.blendLinear(image_bgr, air, left, 1.0 - left), np.uint8)


class Sensor:
    """Lens and sensor of one camera in one weather."""

    def __init__(self, camera: CameraModel, weather: Weather, rng: np.random.Generator) -> None:
        self.camera, self.weather = camera, weather
        self.scale = camera.width_px / 1280.0
        shape = (camera.height_px + 64, camera.width_px + 64)
        noise = rng.standard_normal((*shape, 3), np.float32)
        noise = noise * np.float32(0.7) + noise.mean(axis=2, keepdims=True) * np.float32(0.8)
        self.noise = noise * np.float32(weather.noise_sigma)
        rows = np.linspace(-1, 1, camera.height_px, dtype=np.float32)[:, None] ** 2
        columns = np.linspace(-1, 1, camera.width_px, dtype=np.float32)[None] ** 2
        vignette = 1.0 - np.float32(rng.uniform(0.02, 0.12)) * (rows + columns) * 0.9
        tint = np.array(weather.tint_bgr, np.float32) * (1 + 0.02 * rng.standard_normal(3).astype(np.float32))
        self.gain = (vignette[..., None] * tint * np.float32(weather.exposure)).astype(np.float32)
        self.contrast = float(rng.uniform(0.92, 1.2))
        self.saturation = float(rng.uniform(0.65, 1.1))
        self.motion = float(rng.uniform(0.0, 1.0))

    def expose(self, image_bgr: Image, pose: CameraPose, velocity: Array, rng: np.random.Generator) -> Image:
        """Turn a painted frame into a photograph, uint8 (h, w, 3).

        Args:
            image_bgr: The painted frame.
            pose: Pose of the camera; it decides where the sun is in the picture.
            velocity: Velocity of the camera in the world, m/s, float64 (3,).
            rng: Random numbers of this frame.
        """
        image = self._motion_blur(image_bgr, pose.rotation @ velocity)
        if self.weather.rain > 0:
            image = self._rain(image, rng)
        blurred: Any = cv2.GaussianBlur(image, (0, 0), max(self.weather.blur_px * self.scale, 0.3))
        light: Any = cv2.multiply(blurred, self.gain, dtype=cv2.CV_32F)
        if self.weather.glare > 0:
            light += self._flare(pose)
        light = self._tone(light)
        x, y = int(rng.integers(64)), int(rng.integers(64))
        noise = self.noise[y : y + self.camera.height_px, x : x + self.camera.width_px]
        light += noise
        return np.asarray(cv2.convertScaleAbs(np.maximum(light, 0.0, out=light)), np.uint8)

    def _tone(self, light: Any) -> Any:
        """Apply saturation and an S-curve; keeps 0..255."""
        grey = cv2.cvtColor(light, cv2.COLOR_BGR2GRAY)
        light *= np.float32(self.saturation)
        light += (grey * np.float32(1 - self.saturation))[..., None]
        light -= np.float32(118)
        light *= np.float32(self.contrast)
        light += np.float32(118)
        return light

    def _motion_blur(self, image_bgr: Image, velocity_camera: Array) -> Image:
        """Blur a frame like a short exposure on a moving car: outwards from the point that the car moves to."""
        exposure_s = 0.006 * self.motion
        ahead = velocity_camera[2] * exposure_s
        sideways = velocity_camera[0] * exposure_s
        matrix = self.camera.intrinsic_matrix
        # Assumes a distance of 8 m: in truth nearer objects blur more and farther ones less.
        grow = 1.0 + ahead / 8.0
        shift = -sideways / 8.0 * self.camera.focal_px
        if abs(grow - 1) * self.camera.width_px < 0.6 and abs(shift) < 0.6:
            return image_bgr
        centre_x, centre_y = matrix[0, 2], matrix[1, 2]
        warp = np.array([[grow, 0.0, centre_x * (1 - grow) + shift], [0.0, grow, centre_y * (1 - grow)]])
        size = (self.camera.width_px, self.camera.height_px)
        moved: Any = cv2.warpAffine(image_bgr, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.addWeighted(image_bgr, 0.5, moved, 0.5, 0.0), np.uint8)

    def _rain(self, image_bgr: Image, rng: np.random.Generator) -> Image:
        """Draw falling drops as short bright streaks, and a few drops on the lens."""
        height, width = image_bgr.shape[:2]
        streaks = image_bgr.copy()
        count = int(260 * self.weather.rain)
        starts = rng.uniform(0, 1, (count, 2)) * (width, height)
        lengths = rng.uniform(0.015, 0.06, count) * height
        lean = rng.normal(0.06, 0.05)
        for (x, y), length in zip(starts, lengths, strict=True):
            end = (int(x + lean * length), int(y + length))
            cv2.line(streaks, (int(x), int(y)), end, (205, 205, 205), 1, cv2.LINE_AA)
        image = cv2.addWeighted(streaks, 0.35, image_bgr, 0.65, 0.0)
        for _ in range(int(9 * self.weather.rain)):
            radius = int(rng.uniform(4, 15) * self.scale) + 2
            x, y = int(rng.integers(radius, width - radius)), int(rng.integers(radius, height - radius))
            spot = image[y - radius : y + radius, x - radius : x + radius]
            soft = cv2.GaussianBlur(spot, (0, 0), radius / 2.5)
            drop = np.zeros(spot.shape[:2], np.float32)
            cv2.circle(drop, (radius, radius), radius - 2, 0.8, -1, cv2.LINE_AA)
            spot[:] = cv2.blendLinear(np.ascontiguousarray(soft[::-1]), spot, drop, 1 - drop)
        return np.asarray(image, np.uint8)

    def _flare(self, pose: CameraPose) -> Any:
        """Brighten the picture around the sun, or slightly everywhere if the sun is just outside."""
        sun = pose.rotation @ self.weather.to_sun
        size = (self.camera.height_px // 8 + 1, self.camera.width_px // 8 + 1)
        if sun[2] <= 0.05:
            return np.float32(0.0)
        place = self.camera.project(sun[None])[0] / 8
        columns = (np.arange(size[1], dtype=np.float32) - np.float32(place[0])) ** 2
        rows = (np.arange(size[0], dtype=np.float32) - np.float32(place[1])) ** 2
        reach = np.float32((0.22 * self.camera.width_px / 8) ** 2)
        veil = 1.0 / (1.0 + (rows[:, None] + columns[None]) / reach)
        grown = cv2.resize(veil * np.float32(85 * self.weather.glare), (size[1] * 8, size[0] * 8))
        return grown[: self.camera.height_px, : self.camera.width_px, None] * np.array([0.8, 0.95, 1.05], np.float32)
