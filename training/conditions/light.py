"""Pictures in linear light, where light adds up, and patterns that conditions are drawn with.

A pixel value of a picture is not proportional to the light on it. Fog, blur, glare and noise of photons act on light,
so they are computed there. The curve between both is that of sRGB (IEC 61966-2-1).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Light = NDArray[np.float32]
"""Light of a picture or of one channel, float32 (h, w, 3) or (h, w); 1 is what saturates the sensor."""

_LEVELS = np.arange(256) / 255
_TO_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
_STEPS = 1 << 14  # fine enough that a picture comes back unchanged
_LINEAR = np.arange(_STEPS) / (_STEPS - 1)
_TO_SRGB = np.where(_LINEAR <= 0.0031308, 12.92 * _LINEAR, 1.055 * _LINEAR ** (1 / 2.4) - 0.055)
_TO_SRGB_BYTES = np.rint(255 * _TO_SRGB).astype(np.uint8)


def to_light(image_bgr: Image) -> Light:
    """Return the light of a picture uint8 (h, w, 3), 0..1."""
    return _TO_LINEAR[image_bgr]


def to_image(light: Light) -> Image:
    """Return the picture of light, uint8; what is above 1 is saturated."""
    steps = np.clip(light, 0, 1) * np.float32(_STEPS - 1) + np.float32(0.5)
    return np.asarray(_TO_SRGB_BYTES[steps.astype(np.uint16)])


def mixed(light: Light, other: Light | float, share: Light) -> Light:
    """Return light of which a share 0..1, (h, w) or (h, w, 1), is replaced by other light."""
    share = share if share.ndim == light.ndim else share[..., None]
    return np.asarray(light + (other - light) * share, np.float32)


def brightness(light: Light) -> Light:
    """Return the luminance of light (h, w, 3) in BGR, (h, w), with the weights of ITU-R BT.709."""
    return np.asarray(light @ np.array([0.0722, 0.7152, 0.2126], np.float32), np.float32)


def faded(light: Light, share: float) -> Light:
    """Return light with a share 0..1 of its colour taken away; the brightness stays."""
    return mixed(light, brightness(light)[..., None], np.full(light.shape[:2], share, np.float32))


def soft_noise(height: int, width: int, cells: float, rng: np.random.Generator) -> Light:
    """Return a smooth random pattern, float32 (h, w) 0..1, with about `cells` bumps across the longer side."""
    side = max(height, width) / cells
    rows, columns = max(2, round(height / side) + 1), max(2, round(width / side) + 1)
    coarse = rng.uniform(0, 1, (rows, columns)).astype(np.float32)
    return np.clip(np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32), 0, 1)


def blurred(pixels: Light, sigma_px: float) -> Light:
    """Return pixels blurred by a Gaussian; unchanged where it is narrower than a fifth of a pixel."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma_px), np.float32) if sigma_px >= 0.2 else pixels
