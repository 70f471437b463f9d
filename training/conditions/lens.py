"""What a lens and its movement do to pictures: defocus, motion blur, glare, dirt. Lengths are shares of the width."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.conditions.distance import HORIZON_SHARE, focal_px
from training.conditions.light import Image, Light, blurred, brightness, mixed, soft_noise, to_image, to_light

_FINE = 8  # kernels are drawn this much larger, so that their edges are smooth
_KERNEL_MIN_PX = 0.15  # a narrower blur changes nothing
SUN_LIGHT = 60.0  # of the disc of the sun in a picture; 1 saturates
_RAYS = 7
_SPLASHES_PX = 240  # width at which dirt is drawn


def defocus(image_bgr: Image, radius: float, rng: np.random.Generator) -> Image:
    """Return a picture out of focus: every point becomes a disc, the picture of the aperture.

    Args:
        image_bgr: uint8 (h, w, 3).
        radius: Radius of the disc as a share of the width.
        rng: Unused.
    """
    del rng
    radius_px = radius * image_bgr.shape[1]
    side = 2 * int(np.ceil(radius_px)) + 1
    fine = np.zeros((side * _FINE, side * _FINE), np.float32)
    cv2.circle(fine, (side * _FINE // 2,) * 2, max(1, round(radius_px * _FINE)), (1.0,), -1)
    return _through_kernel(image_bgr, fine, radius_px)


def motion_blur(image_bgr: Image, length: float, rng: np.random.Generator) -> Image:
    """Return a picture of a camera that turned during the exposure: every point becomes a line, mostly sideways.

    Args:
        image_bgr: uint8 (h, w, 3).
        length: Length of the line as a share of the width.
        rng: Generator of all random numbers.
    """
    length_px, angle = length * image_bgr.shape[1], rng.normal(0, 0.3)
    side = 2 * int(np.ceil(length_px / 2)) + 1
    fine = np.zeros((side * _FINE, side * _FINE), np.float32)
    half = np.array([np.cos(angle), np.sin(angle)]) * length_px / 2 * _FINE
    ends = [tuple(np.rint(side * _FINE / 2 + sign * half).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(fine, ends[0], ends[1], (1.0,), _FINE)
    return _through_kernel(image_bgr, fine, length_px)


def glare(image_bgr: Image, strength: float, rng: np.random.Generator) -> Image:
    """Return a picture into the sun: its disc, rays of the aperture, and light that is scattered in the lens.

    Scattered light falls with the square of the angle to the sun, as in the eye (formula of Stiles and Holladay, CIE
    146:2002). The sun stands in the brightest part of the upper half.

    Args:
        image_bgr: uint8 (h, w, 3).
        strength: Scattered light ten degrees from the sun; 1 saturates.
        rng: Generator of all random numbers.
    """
    height, width = image_bgr.shape[:2]
    light = to_light(image_bgr)
    x, y = _sun_place(light, rng)
    across, down = np.arange(width, dtype=np.float32)[None] - x, np.arange(height, dtype=np.float32)[:, None] - y
    degrees = np.degrees(np.hypot(across, down) / np.float32(focal_px(width)))
    veil = np.float32(strength * 100) / (degrees**2 + np.float32(9.0))
    turned = np.arctan2(down, across) * np.float32(_RAYS) + np.float32(rng.uniform(0, 2 * np.pi))
    rays = np.float32(strength * 40) * np.abs(np.cos(turned / 2)) ** 60 / (degrees + np.float32(1.5)) ** np.float32(1.7)
    disc = np.float32(SUN_LIGHT) * (degrees < 1.0 + 2.0 * strength)
    added = veil + rays + blurred(disc.astype(np.float32), 0.004 * width)
    return to_image(light + added[..., None] * np.array([0.80, 0.94, 1.0], np.float32))


def dirt(image_bgr: Image, share: float, rng: np.random.Generator) -> Image:
    """Return a picture through a dirty lens: blobs of mud and dust, out of focus because they are close.

    Args:
        image_bgr: uint8 (h, w, 3).
        share: Share of the picture that dirt covers, 0..1.
        rng: Generator of all random numbers.
    """
    height, width = image_bgr.shape[:2]
    light = to_light(image_bgr)
    field = _splashes(height, width, rng)
    threshold = np.quantile(field, 1 - share)
    covered = np.clip((field - threshold) / np.float32(0.16) + np.float32(0.5), 0, 1) * np.float32(0.96)
    covered = blurred(np.asarray(covered, np.float32), 0.006 * width)
    mud = np.array([0.30, 0.40, 0.50], np.float32) * np.float32(0.12 + 0.35 * float(brightness(light).mean()))
    tint = np.float32(0.6) + np.float32(0.8) * soft_noise(height, width, 14, rng)[..., None]
    return to_image(mixed(light, mud * tint, covered))


def _through_kernel(image_bgr: Image, fine: NDArray[np.float32], size_px: float) -> Image:
    """Return a picture blurred by a kernel that is drawn _FINE times larger."""
    if size_px < _KERNEL_MIN_PX:
        return np.array(image_bgr)
    side = len(fine) // _FINE
    kernel = np.asarray(cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA), np.float32)
    kernel /= kernel.sum()
    return to_image(np.asarray(cv2.filter2D(to_light(image_bgr), -1, kernel, borderType=cv2.BORDER_REFLECT_101)))


def _sun_place(light: Light, rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    """Return where the sun stands, in pixels: in the brightest part above the horizon."""
    height, width = light.shape[:2]
    above = blurred(brightness(light), 0.03 * width)[: max(1, int(0.8 * HORIZON_SHARE * height))]
    chance = above + np.float32(0.02) * rng.uniform(0, 1, above.shape).astype(np.float32)
    row, column = np.unravel_index(int(chance.argmax()), chance.shape)
    return np.float32(column), np.float32(row)


def _splashes(height: int, width: int, rng: np.random.Generator) -> Light:
    """Return how thick dirt lies, float32 (h, w): blobs of many sizes, with frayed edges.

    They are out of focus, so a small picture of them is enough, which is ten times faster.
    """
    wide = min(width, _SPLASHES_PX)
    small = max(1, round(height * wide / width)), wide
    return np.asarray(cv2.resize(_drawn_splashes(*small, rng), (width, height), interpolation=cv2.INTER_CUBIC))


def _drawn_splashes(height: int, width: int, rng: np.random.Generator) -> Light:
    field = np.zeros((height, width), np.float32)
    for _ in range(70):
        radius = float(np.exp(rng.uniform(np.log(0.008), np.log(0.09)))) * width
        centre = rng.uniform(0, 1, 2) * (width, height)
        axes = np.maximum(1, np.rint(radius * rng.uniform(0.6, 1.4, 2)).astype(int))
        blob = np.zeros_like(field)
        cv2.ellipse(
            blob, np.rint(centre).astype(int).tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, (1.0,), -1
        )
        field += blurred(blob, 0.3 * radius) * np.float32(rng.uniform(0.5, 1.0))
    for cells, weight in ((8, 0.35), (25, 0.25), (70, 0.12)):
        field += np.float32(weight) * soft_noise(height, width, cells, rng)
    return field
