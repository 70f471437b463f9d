"""Random changes of light, colour and sensor noise on uint8 BGR images. Labels do not change."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config.sections import AugmentationRecipe

Image = NDArray[np.uint8]


def vary_colors(image_bgr: Image, recipe: AugmentationRecipe, rng: np.random.Generator) -> Image:
    """Change light, then colour, then lens, sensor and codec: the order in which a camera affects an image.

    Args:
        image_bgr: uint8 (h, w, 3).
        recipe: How much and how often.
        rng: Generator of all random numbers.
    """
    image = image_bgr
    if rng.random() < recipe.shade:
        image = shade(image, rng)
    image = np.asarray(cv2.LUT(image, tone_curves(recipe, rng)), np.uint8)
    image = turn_hue(image, recipe, rng)
    if rng.random() < recipe.grey:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
    if rng.random() < recipe.blur:
        image = blur(image, rng)
    if rng.random() < recipe.noise:
        image = add_noise(image, rng)
    if rng.random() < recipe.jpeg:
        image = through_jpeg(image, int(rng.integers(30, 90)))
    return np.asarray(image, np.uint8)


def _factor(amount: float, rng: np.random.Generator, size: int | None = None) -> NDArray[np.float64] | float:
    """Draw factors from 1 / (1 + amount) to 1 + amount, log-uniformly: one, or an array of `size`."""
    factor: NDArray[np.float64] | float = np.exp(rng.uniform(-1, 1, size) * np.log1p(amount))
    return factor


def tone_curves(recipe: AugmentationRecipe, rng: np.random.Generator) -> Image:
    """Draw gamma, gain of each channel, contrast and brightness, and return them as one table, uint8 (256, 1, 3)."""
    gamma, contrast = _factor(recipe.gamma, rng), _factor(recipe.contrast, rng)
    gains = _factor(recipe.gain, rng, 3)
    brightness = rng.uniform(-recipe.brightness, recipe.brightness)
    levels = (np.arange(256) / 255) ** gamma
    curves = (levels[:, None] * gains - 0.5) * contrast + 0.5 + brightness
    return np.asarray(np.clip(curves * 255 + 0.5, 0, 255), np.uint8)[:, None, :]


def turn_hue(image_bgr: Image, recipe: AugmentationRecipe, rng: np.random.Generator) -> Image:
    """Turn the hue and scale the saturation by random amounts."""
    turn = rng.uniform(-recipe.hue_degrees, recipe.hue_degrees) / 2  # OpenCV's uint8 hue counts 0..179
    factor = _factor(recipe.saturation, rng)
    steps = np.arange(256)
    table = np.empty((256, 1, 3), np.uint8)
    table[:, 0, 0] = np.round(steps + turn) % 180
    table[:, 0, 1] = np.clip(steps * factor, 0, 255)
    table[:, 0, 2] = steps
    return np.asarray(cv2.cvtColor(cv2.LUT(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2HSV), table), cv2.COLOR_HSV2BGR))


def shade(image_bgr: Image, rng: np.random.Generator) -> Image:
    """Darken or brighten one side of the image, with a soft straight edge in between."""
    height, width = image_bgr.shape[:2]
    angle, softness = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(0.02), np.log(1.0)))
    x = (np.arange(width, dtype=np.float32) / width - 0.5) * np.float32(np.cos(angle))
    y = (np.arange(height, dtype=np.float32) / height - 0.5) * np.float32(np.sin(angle))
    along = (x[None, :] + y[:, None] - np.float32(rng.uniform(-0.35, 0.35))) / np.float32(softness)
    depth = rng.uniform(-0.3, 0.65)  # negative: the far side is brighter
    factor = 1 - np.float32(depth) * np.clip(along + 0.5, 0, 1)
    return np.asarray(np.clip(image_bgr * factor[..., None], 0, 255), np.uint8)


def blur(image_bgr: Image, rng: np.random.Generator) -> Image:
    """Blur the image: out of focus, or sideways by motion."""
    if rng.random() < 0.5:
        sigma = rng.uniform(0.4, 1.8)
        return np.asarray(cv2.GaussianBlur(image_bgr, (0, 0), sigma))
    return np.asarray(cv2.blur(image_bgr, (int(rng.integers(2, 8)), 1)))


def add_noise(image_bgr: Image, rng: np.random.Generator) -> Image:
    """Add sensor noise of 2 to 14 levels; a random part of it is the same in all channels."""
    sigma, shared = rng.uniform(2, 14), rng.random()
    # OpenCV's generator is ten times faster than NumPy's here; its seed comes from ours.
    cv2.setRNGSeed(int(rng.integers(0, 2**31 - 1)))
    height, width = image_bgr.shape[:2]
    colored = np.empty((height, width, 3), np.int16)
    cv2.randn(colored, (0, 0, 0), (sigma * shared,) * 3)  # type: ignore[call-overload]  # as OpenCV documents it
    common = np.empty((height, width), np.int16)
    cv2.randn(common, 0, sigma * (1 - shared))  # type: ignore[call-overload]
    return np.asarray(np.clip(image_bgr + colored + common[..., None], 0, 255), np.uint8)


def through_jpeg(image_bgr: Image, quality: int) -> Image:
    """Encode the image as JPEG of a quality from 0 to 100 and decode it."""
    _, encoded = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)
