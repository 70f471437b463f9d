"""What the sensor and the link of a camera do to pictures: noise, little light, dead rows, and too much compression.

The noise model is the usual one of photon transfer (J. R. Janesick, "Photon Transfer", SPIE 2007): photons arrive by
chance, so the electrons of a pixel have a Poisson distribution, and reading them adds normal noise. Both happen in
linear light. The curve of sRGB afterwards makes noise stronger in dark parts, as in pictures of real cameras.
"""

from __future__ import annotations

import numpy as np

from training.conditions.light import Image, Light, to_image, to_light
from training.data.photometry import through_jpeg

FULL_WELL_ELECTRONS = 4000.0  # of a small pixel of a street camera, at saturation
READ_NOISE_ELECTRONS = 2.5


def shot_noise(image_bgr: Image, electrons: float, rng: np.random.Generator) -> Image:
    """Return a picture of few photons.

    Args:
        image_bgr: uint8 (h, w, 3).
        electrons: Electrons of a saturated pixel, above 0. Fewer make more noise.
        rng: Generator of all random numbers.
    """
    return to_image(_read_out(to_light(image_bgr), electrons, READ_NOISE_ELECTRONS, rng))


def read_noise(image_bgr: Image, share: float, rng: np.random.Generator) -> Image:
    """Return a picture with noise of the electronics, which does not depend on the light.

    A part of it is the same along each row, as in sensors that read row by row.

    Args:
        image_bgr: uint8 (h, w, 3).
        share: Standard deviation as a share of the saturated signal, above 0.
        rng: Generator of all random numbers.
    """
    height, width = image_bgr.shape[:2]
    noise = rng.standard_normal((height, width, 3), np.float32)
    noise += np.float32(0.35) * rng.standard_normal((height, 1, 1), np.float32)
    return to_image(to_light(image_bgr) + np.float32(share) * noise)


def low_light(image_bgr: Image, stops: float, rng: np.random.Generator) -> Image:
    """Return a picture of a scene with less light, at the same exposure.

    Args:
        image_bgr: uint8 (h, w, 3).
        stops: How often the light is halved, above 0.
        rng: Generator of all random numbers.
    """
    dark = to_light(image_bgr) * np.float32(2.0**-stops)
    return to_image(_read_out(dark, FULL_WELL_ELECTRONS, READ_NOISE_ELECTRONS, rng))


def dead_rows(image_bgr: Image, share: float, rng: np.random.Generator) -> Image:
    """Return a picture in which rows of the sensor are dead: stuck at black, at white or at the row above.

    Args:
        image_bgr: uint8 (h, w, 3).
        share: Share of the rows that are dead, 0..1.
        rng: Generator of all random numbers.
    """
    height = len(image_bgr)
    order = rng.permutation(height)
    stuck = rng.choice(3, height, p=(0.45, 0.15, 0.4))
    image: Image = image_bgr.copy()
    for row in order[: max(1, round(share * height))].tolist():
        image[row] = (0, 255, image[max(0, row - 1)])[stuck[row]]
    return image


def jpeg(image_bgr: Image, quality: float, rng: np.random.Generator) -> Image:
    """Return a picture that went through JPEG of a quality 0..100."""
    del rng
    return through_jpeg(image_bgr, round(quality))


def _read_out(light: Light, electrons: float, read_electrons: float, rng: np.random.Generator) -> Light:
    """Return the light that a sensor reports.

    Args:
        light: What arrives, (h, w, 3).
        electrons: Electrons of light 1.
        read_electrons: Standard deviation of the reading, in electrons.
        rng: Generator of all random numbers.
    """
    counted = rng.poisson(light * np.float32(electrons)).astype(np.float32)
    counted += np.float32(read_electrons) * rng.standard_normal(light.shape, np.float32)
    return np.asarray(counted / np.float32(electrons), np.float32)
