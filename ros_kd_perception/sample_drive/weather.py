"""The weathers: where the light comes from, what the sky looks like and how far one sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive.canvas import Color
from ros_kd_perception.sample_drive.shapes import Light


@dataclass(frozen=True)
class Weather:
    """The light and air of one drive. Colours are BGR 0..255, gains multiply what a surface reflects."""

    name: str
    sun_elevation_rad: float
    sun_azimuth_rad: float
    sun_gain: float
    sky_gain: float
    zenith_bgr: Color
    horizon_bgr: Color
    cloud_share: float
    cloud_bgr: Color
    haze_per_m: float
    exposure: float
    tint_bgr: Color
    noise_sigma: float
    blur_px: float
    wetness: float = 0.0
    rain: float = 0.0
    glare: float = 0.0
    lit_windows: float = 0.0

    @property
    def to_sun(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Unit vector to the sun in the world, float64 (3,)."""
        flat = np.cos(self.sun_elevation_rad)
        return np.array(
            [flat * np.cos(self.sun_azimuth_rad), flat * np.sin(self.sun_azimuth_rad), np.sin(self.sun_elevation_rad)]
        )

    @property
    def light(self) -> Light:
        """The light as surfaces receive it."""
        return Light(self.to_sun, self.sun_gain, self.sky_gain, self.lit_windows > 0.1)


WEATHERS = ("day", "dusk", "fog", "rain", "low_sun")


def draw_weather(rng: np.random.Generator, name: str) -> Weather:
    """Choose one day of a named weather; raises ValueError for a name not in WEATHERS."""
    azimuth = float(rng.uniform(0, 2 * np.pi))
    blur, noise = float(rng.uniform(0.35, 0.9)), float(rng.uniform(1.0, 3.5))
    if name == "day":
        return _day(rng, azimuth, noise, blur)
    if name == "dusk":
        glow = rng.uniform(0.8, 1.5)
        return Weather(
            name, 0.06, azimuth, 0.05, float(rng.uniform(0.45, 0.85)), (150, 120, 100), (130 * glow, 140 * glow, 165 * glow),
            float(rng.uniform(0.2, 0.9)), (100, 92, 92), 0.0012, float(rng.uniform(0.85, 1.15)), (1.06, 0.98, 0.96), noise + 3,
            blur + 0.1, lit_windows=float(rng.uniform(0.2, 0.5)),
        )  # fmt: skip
    if name == "fog":
        level = float(rng.uniform(165, 210))
        return Weather(
            name, 0.7, azimuth, 0.0, float(rng.uniform(0.75, 0.95)), (level, level, level), (level, level, level), 0.0,
            (level, level, level), float(rng.uniform(0.009, 0.028)), 1.0, (1.01, 1.0, 0.99), noise, blur + 0.2,
            lit_windows=0.08,
        )  # fmt: skip
    if name == "rain":
        level = float(rng.uniform(135, 215))
        return Weather(
            name, 0.8, azimuth, 0.0, float(rng.uniform(0.65, 0.95)), (level, level * 0.97, level * 0.93),
            (level * 1.12, level * 1.1, level * 1.07), 0.85, (level * 0.9, level * 0.88, level * 0.86),
            float(rng.uniform(0.003, 0.007)), float(rng.uniform(0.9, 1.1)), (1.03, 1.0, 0.97), noise + 1, blur + 0.25,
            wetness=float(rng.uniform(0.5, 1.0)), rain=float(rng.uniform(0.3, 1.0)), lit_windows=0.15,
        )  # fmt: skip
    if name == "low_sun":
        # Towards the sun or away from it, seldom across: this is the case that dazzles a camera.
        azimuth = float(rng.choice([0.0, np.pi], p=[0.7, 0.3]) + rng.normal(0, 0.35))
        return Weather(
            name, float(rng.uniform(0.1, 0.28)), azimuth, float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.38, 0.6)),
            (215, 175, 135), (205, 225, 240), float(rng.uniform(0.0, 0.5)), (225, 232, 240), 0.003,
            float(rng.uniform(0.95, 1.2)), (0.93, 1.0, 1.06), noise, blur, glare=float(rng.uniform(0.5, 1.0)),
        )  # fmt: skip
    raise ValueError(f"expected a weather of {', '.join(WEATHERS)}, got {name!r}")


def _day(rng: np.random.Generator, azimuth: float, noise: float, blur: float) -> Weather:
    """Sunny, broken or overcast; an overcast sky is often burnt out, as it is in most cameras' street pictures."""
    if rng.random() < 0.55:
        level = float(rng.uniform(205, 275))
        cloud = level * float(rng.uniform(0.86, 1.0))
        return Weather(
            "day", 0.8, azimuth, 0.08, float(rng.uniform(0.75, 1.15)), (level * 0.99, level * 0.96, level * 0.93),
            (level, level, level), 0.75, (cloud, cloud * 0.99, cloud * 0.98), float(rng.uniform(0.0005, 0.003)),
            float(rng.uniform(0.9, 1.15)), (1.02, 1.0, 0.98), noise, blur,
        )  # fmt: skip
    return Weather(
        "day", float(rng.uniform(0.4, 1.0)), azimuth, float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.55, 0.8)),
        (225, 165, 105), (245, 230, 210), float(rng.uniform(0.1, 0.6)), (250, 247, 244), float(rng.uniform(0.0005, 0.003)),
        float(rng.uniform(0.95, 1.2)), (1.0, 1.0, 1.0), noise, blur,
    )  # fmt: skip
