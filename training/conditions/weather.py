"""Fog, rain and snow on frames, by the light that is lost and added between an object and the camera.

Koschmieder's law: from a distance d, I = J t + A (1 - t) with t = exp(-beta d), where J is the light of the object and
A that of the air. The visibility V is the distance at which 2 % of the contrast are left: beta = 3.912 / V (WMO No. 8,
Guide to Instruments and Methods of Observation). The law is one of light, so it is applied in linear light.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.conditions.distance import FARTHEST_M, distances
from training.conditions.light import Light, blurred, brightness, faded, mixed, soft_noise, to_image, to_light
from training.data.sample import Sample

CONTRAST_LEFT = 3.912  # -ln 0.02
HEAVIEST_RAIN_MM_PER_H = 120.0
THICKEST_SNOW_M = 60.0
_SPRAY = 3.0  # drops that wheels whirl up, as a multiple of what falls: chosen by eye
# Layers of drops and flakes from far to near: number at the highest severity, length or radius as a share of the
# height, thickness and blur as shares of the width, and how much of the light behind is replaced.
_STREAKS = (
    (5000, 0.020, 0.0008, 0.0003, 0.34),
    (1100, 0.055, 0.0016, 0.0008, 0.38),
    (130, 0.140, 0.0036, 0.0022, 0.34),
)
_FLAKES = (
    (7000, 0.0009, 0.0004, 0.85),
    (1500, 0.0018, 0.0007, 0.90),
    (150, 0.0042, 0.0022, 0.75),
)
_LENS_DROPS = 26
CLOUDS_M = 400.0  # rain and snow fall out of clouds: there is no more of them beyond


def fog(sample: Sample, visibility_m: float, rng: np.random.Generator) -> Sample:
    """Return a frame in fog. Distances are those of `distances`; the density varies a little from place to place.

    Args:
        sample: The frame.
        visibility_m: Visibility in metres.
        rng: Generator of all random numbers.
    """
    light = to_light(sample.image_bgr)
    left = _left(sample, CONTRAST_LEFT / visibility_m, 0.25, rng)
    return replace(sample, image_bgr=to_image(mixed(light, _air(light, 0.62, 0.85), 1 - left)))


def rain(sample: Sample, rate_mm_per_h: float, rng: np.random.Generator) -> Sample:
    """Return a frame in rain: a grey sky, haze of drops and spray, streaks, and drops on the lens.

    The haze of falling drops follows beta = 0.248 R^0.67 per kilometre (D. Atlas, 1953). Streaks are as bright as the
    sky, because a drop shows nearly all of it (K. Garg and S. K. Nayar, "Vision and Rain", IJCV 2007).

    Args:
        sample: The frame.
        rate_mm_per_h: Rain rate R.
        rng: Generator of all random numbers.
    """
    share = rate_mm_per_h / HEAVIEST_RAIN_MM_PER_H
    light = faded(to_light(sample.image_bgr), 0.5 * share**0.5) * np.float32(1 - 0.42 * share**0.5)
    air = _air(light, 0.30, 0.55)
    beta = (1 + _SPRAY) * 0.248e-3 * rate_mm_per_h**0.67
    light = mixed(light, air, 1 - _left(sample, beta, 0.2, rng, CLOUDS_M))
    lean = rng.normal(0.0, 0.12)
    for count, length, thickness, blur, opacity in _STREAKS:
        streaks = _streaks(light.shape[:2], count, share, length, thickness, lean, rng)
        light = mixed(light, air, blurred(streaks, blur * light.shape[1]) * np.float32(opacity))
    return replace(sample, image_bgr=to_image(_through_drops(light, share, rng)))


def snow(sample: Sample, visibility_m: float, rng: np.random.Generator) -> Sample:
    """Return a frame in falling snow: flakes of three distances, haze of the far ones, and pale, bright light.

    Snowfall is classed by visibility: slight above 1 km, moderate from 500 m, heavy below (WMO No. 306, table 4677).

    Args:
        sample: The frame.
        visibility_m: Visibility in metres.
        rng: Generator of all random numbers.
    """
    share = (THICKEST_SNOW_M / visibility_m) ** 0.8
    light = faded(to_light(sample.image_bgr), 0.6 * share)
    light = mixed(light, 0.75, np.full(light.shape[:2], 0.16 * share, np.float32))
    air = _air(light, 0.60, 0.85)
    light = mixed(light, air, 1 - _left(sample, CONTRAST_LEFT / visibility_m, 0.2, rng, CLOUDS_M))
    for count, radius, blur, opacity in _FLAKES:
        flakes = _flakes(light.shape[:2], count, share, radius, rng)
        light = mixed(light, 0.92, blurred(flakes, blur * light.shape[1]) * np.float32(opacity))
    return replace(sample, image_bgr=to_image(light))


def _left(
    sample: Sample, beta_per_m: float, uneven: float, rng: np.random.Generator, farthest_m: float = FARTHEST_M
) -> Light:
    """Return the share of the light that is left between an object and the camera, float32 (h, w)."""
    height, width = sample.mask.shape
    density = 1 + np.float32(uneven) * (2 * soft_noise(height, width, 5, rng) - 1)
    left = np.exp(-np.float32(beta_per_m) * density * np.minimum(distances(sample), np.float32(farthest_m)))
    return blurred(np.asarray(left, np.float32), 0.003 * width)


def _air(light: Light, darkest: float, brightest: float) -> Light:
    """Return the light of the air, (3,): that of the bright parts of the frame, slightly bluish, within limits."""
    level = float(np.clip(np.quantile(brightness(light)[::4, ::4], 0.95), darkest, brightest))
    return np.array([1.02 * level, level, 0.98 * level], np.float32)


def _streaks(
    size: tuple[int, ...],
    count: int,
    share: float,
    length: float,
    thickness: float,
    lean: float,
    rng: np.random.Generator,
) -> Light:
    """Return streaks of falling drops, float32 (h, w) 0..1. A smaller share draws the first of the same ones."""
    height, width = size
    starts = rng.uniform(-0.1, 1, (count, 2)) * (width, height)
    lengths = rng.uniform(0.5, 1.4, count) * length * height
    strengths = rng.uniform(70, 255, count)
    drawn = np.zeros((height, width), np.uint8)
    for place in range(round(count * share)):
        (x, y), along = starts[place], lengths[place]
        ends = _fixed(x, y), _fixed(x + lean * along, y + along)
        cv2.line(drawn, *ends, (float(strengths[place]),), max(1, round(thickness * width)), cv2.LINE_AA, _SHIFT)
    return _of_bytes(drawn)


def _flakes(size: tuple[int, ...], count: int, share: float, radius: float, rng: np.random.Generator) -> Light:
    """Return flakes, float32 (h, w) 0..1. A smaller share draws the first of the same ones."""
    height, width = size
    places = rng.uniform(0, 1, (count, 2)) * (width, height)
    radii = np.exp(rng.normal(0, 0.3, count)) * radius * width
    strengths = rng.uniform(120, 255, count)
    falls = rng.normal((0.3, 1.0), 0.35, (count, 2))
    drawn = np.zeros((height, width), np.uint8)
    for place in range(round(count * share)):
        (x, y), size_px = places[place], radii[place]
        fall = falls[place] * size_px
        ends = _fixed(x - fall[0], y - fall[1]), _fixed(x + fall[0], y + fall[1])
        cv2.line(drawn, *ends, (float(strengths[place]),), max(1, round(2 * size_px)), cv2.LINE_AA, _SHIFT)
    return _of_bytes(drawn)


_SHIFT = 3  # bits behind the point of coordinates that are drawn at


def _fixed(x: float, y: float) -> tuple[int, int]:
    return round(x * (1 << _SHIFT)), round(y * (1 << _SHIFT))


def _of_bytes(drawn: NDArray[np.uint8]) -> Light:
    return np.asarray(drawn / 255, np.float32)


def _through_drops(light: Light, share: float, rng: np.random.Generator) -> Light:
    """Return light through drops on the lens: each shows the scene upside down and small, out of focus."""
    height, width = light.shape[:2]
    places = rng.uniform(0, 1, (_LENS_DROPS, 2)) * (width, height)
    radii = np.exp(rng.uniform(np.log(0.006), np.log(0.024), _LENS_DROPS)) * width
    small = blurred(np.ascontiguousarray(light[::-1, ::-1]), 0.02 * width)
    result: Light = light.copy()
    for place in range(round(_LENS_DROPS * share)):
        radius = radii[place]
        x0, y0 = np.maximum(np.floor(places[place] - radius - 1), 0).astype(int)
        x1, y1 = np.ceil(places[place] + radius + 1).astype(int)
        part = result[y0:y1, x0:x1]
        rows, columns = np.mgrid[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]].astype(np.float32)
        reach = np.hypot(columns - places[place, 0], rows - places[place, 1]) / radius
        inside = np.clip((1 - reach) * 4, 0, 1) * np.float32(0.9)
        seen = cv2.resize(small, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_AREA)
        part[:] = mixed(part, np.asarray(seen, np.float32) * np.float32(1.1), np.asarray(inside, np.float32))
    return result
