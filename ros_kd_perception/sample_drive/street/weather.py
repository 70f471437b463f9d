"""The weathers: direction of the light, appearance of the sky, and visibility."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ros_kd_perception.sample_drive.canvas.canvas import Color
from ros_kd_perception.sample_drive.canvas.shapes import Light


@dataclass(frozen=True)
class Weather:
    """The light and air of one drive. Colours are BGR 0..255; gains multiply the light that a surface reflects."""

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
        """Return the unit vector to the sun in the world, float64 (3,)."""
        flat = np.cos(self.sun_elevation_rad)
        return np.array(
            [flat * np.cos(self.sun_azimuth_rad), flat * np.sin(self.sun_azimuth_rad), np.sin(self.sun_elevation_rad)]
        )

    @property
    def light(self) -> Light:
        """Return the light that reaches surfaces."""
        return Light(self.to_sun, self.sun_gain, self.sky_gain, self.lit_windows > 0.1)


WeatherChange = Callable[[Weather], Weather]
"""Returns another weather of the same drive."""

WEATHERS = ("day", "dusk", "fog", "rain", "low_sun")


def draw_weather(rng: np.random.Generator, name: str) -> Weather:
    """Choose one day of a named weather; raise ValueError for a name that is not in WEATHERS."""
    if name not in WEATHERS:
        raise ValueError(f"expected a weather of {', '.join(WEATHERS)}, got {name!r}")
    draw = {"day": _day, "dusk": _dusk, "fog": _fog, "rain": _rain, "low_sun": _low_sun}[name]
    azimuth = float(rng.uniform(0, 2 * np.pi))
    blur, noise = float(rng.uniform(0.35, 0.9)), float(rng.uniform(1.0, 3.5))
    return draw(rng, azimuth, noise, blur)


def _day(rng: np.random.Generator, azimuth: float, noise: float, blur: float) -> Weather:
    """Choose a sunny, broken or overcast day.

    An overcast sky is often overexposed, as in most pictures of street cameras.
    """
    if rng.random() < 0.55:
        level = float(rng.uniform(205, 275))
        cloud = level * float(rng.uniform(0.86, 1.0))
        return Weather(
            name="day",
            sun_elevation_rad=0.8,
            sun_azimuth_rad=azimuth,
            sun_gain=0.08,
            sky_gain=float(rng.uniform(0.75, 1.15)),
            zenith_bgr=(level * 0.99, level * 0.96, level * 0.93),
            horizon_bgr=(level, level, level),
            cloud_share=0.75,
            cloud_bgr=(cloud, cloud * 0.99, cloud * 0.98),
            haze_per_m=float(rng.uniform(0.0005, 0.003)),
            exposure=float(rng.uniform(0.9, 1.15)),
            tint_bgr=(1.02, 1.0, 0.98),
            noise_sigma=noise,
            blur_px=blur,
        )
    return Weather(
        name="day",
        sun_elevation_rad=float(rng.uniform(0.4, 1.0)),
        sun_azimuth_rad=azimuth,
        sun_gain=float(rng.uniform(0.35, 0.65)),
        sky_gain=float(rng.uniform(0.55, 0.8)),
        zenith_bgr=(225, 165, 105),
        horizon_bgr=(245, 230, 210),
        cloud_share=float(rng.uniform(0.1, 0.6)),
        cloud_bgr=(250, 247, 244),
        haze_per_m=float(rng.uniform(0.0005, 0.003)),
        exposure=float(rng.uniform(0.95, 1.2)),
        tint_bgr=(1.0, 1.0, 1.0),
        noise_sigma=noise,
        blur_px=blur,
    )


def _dusk(rng: np.random.Generator, azimuth: float, noise: float, blur: float) -> Weather:
    glow = rng.uniform(0.8, 1.5)
    return Weather(
        name="dusk",
        sun_elevation_rad=0.06,
        sun_azimuth_rad=azimuth,
        sun_gain=0.05,
        sky_gain=float(rng.uniform(0.45, 0.85)),
        zenith_bgr=(150, 120, 100),
        horizon_bgr=(130 * glow, 140 * glow, 165 * glow),
        cloud_share=float(rng.uniform(0.2, 0.9)),
        cloud_bgr=(100, 92, 92),
        haze_per_m=0.0012,
        exposure=float(rng.uniform(0.85, 1.15)),
        tint_bgr=(1.06, 0.98, 0.96),
        noise_sigma=noise + 3,
        blur_px=blur + 0.1,
        lit_windows=float(rng.uniform(0.2, 0.5)),
    )


def _fog(rng: np.random.Generator, azimuth: float, noise: float, blur: float) -> Weather:
    level = float(rng.uniform(165, 210))
    return Weather(
        name="fog",
        sun_elevation_rad=0.7,
        sun_azimuth_rad=azimuth,
        sun_gain=0.0,
        sky_gain=float(rng.uniform(0.75, 0.95)),
        zenith_bgr=(level, level, level),
        horizon_bgr=(level, level, level),
        cloud_share=0.0,
        cloud_bgr=(level, level, level),
        haze_per_m=float(rng.uniform(0.009, 0.028)),
        exposure=1.0,
        tint_bgr=(1.01, 1.0, 0.99),
        noise_sigma=noise,
        blur_px=blur + 0.2,
        lit_windows=0.08,
    )


def _rain(rng: np.random.Generator, azimuth: float, noise: float, blur: float) -> Weather:
    level = float(rng.uniform(135, 215))
    return Weather(
        name="rain",
        sun_elevation_rad=0.8,
        sun_azimuth_rad=azimuth,
        sun_gain=0.0,
        sky_gain=float(rng.uniform(0.65, 0.95)),
        zenith_bgr=(level, level * 0.97, level * 0.93),
        horizon_bgr=(level * 1.12, level * 1.1, level * 1.07),
        cloud_share=0.85,
        cloud_bgr=(level * 0.9, level * 0.88, level * 0.86),
        haze_per_m=float(rng.uniform(0.003, 0.007)),
        exposure=float(rng.uniform(0.9, 1.1)),
        tint_bgr=(1.03, 1.0, 0.97),
        noise_sigma=noise + 1,
        blur_px=blur + 0.25,
        wetness=float(rng.uniform(0.5, 1.0)),
        rain=float(rng.uniform(0.3, 1.0)),
        lit_windows=0.15,
    )


def _low_sun(rng: np.random.Generator, azimuth: float, noise: float, blur: float) -> Weather:
    # Mostly towards the sun or away from it, because this dazzles a camera.
    azimuth = float(rng.choice([0.0, np.pi], p=[0.7, 0.3]) + rng.normal(0, 0.35))
    return Weather(
        name="low_sun",
        sun_elevation_rad=float(rng.uniform(0.1, 0.28)),
        sun_azimuth_rad=azimuth,
        sun_gain=float(rng.uniform(0.5, 0.8)),
        sky_gain=float(rng.uniform(0.38, 0.6)),
        zenith_bgr=(215, 175, 135),
        horizon_bgr=(205, 225, 240),
        cloud_share=float(rng.uniform(0.0, 0.5)),
        cloud_bgr=(225, 232, 240),
        haze_per_m=0.003,
        exposure=float(rng.uniform(0.95, 1.2)),
        tint_bgr=(0.93, 1.0, 1.06),
        noise_sigma=noise,
        blur_px=blur,
        glare=float(rng.uniform(0.5, 1.0)),
    )
