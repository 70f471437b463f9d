"""Something opaque on the lens: a blot, a finger or a leaf, out of focus because it is close."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from training.conditions.light import Image, Light, blurred, brightness, mixed, soft_noise, to_image, to_light

_DRAWN_PX = 240  # width at which a cover is drawn: it has no fine detail
_EDGE = 0.05  # width of its soft edge, as a share of the width of the picture
_WOBBLE = 0.12  # how far the edge of a blot strays, as a share of the width
_FINGER_LENGTH = 0.35  # of the middle line of a finger from the edge of the picture, as a share of the width
_LEAF_WAIST = 0.35  # distance of the two circles whose common part is a leaf, as a share of the width

Shape = Callable[[Light, Light, float, np.random.Generator], Light]
"""Returns how far inside a cover each pixel lies: gets x and y, 0..1 and 0..height / width, that height, and random
numbers. Where the cover ends follows from the share that it has."""


def lens_cover(image_bgr: Image, share: float, rng: np.random.Generator) -> Image:
    """Return a picture of which something opaque hides a part.

    Args:
        image_bgr: uint8 (h, w, 3).
        share: Share of the picture that is hidden, 0..1. The same thing grows with it.
        rng: Generator of all random numbers.
    """
    height, width = image_bgr.shape[:2]
    light = to_light(image_bgr)
    shape, color = _THINGS[int(rng.integers(len(_THINGS)))]
    small_height = max(1, round(height * _DRAWN_PX / width))
    places = np.meshgrid(
        (np.arange(_DRAWN_PX, dtype=np.float32) + 0.5) / _DRAWN_PX,
        (np.arange(small_height, dtype=np.float32) + 0.5) / _DRAWN_PX,
    )
    across, down = (np.asarray(each, np.float32) for each in places)
    inside = np.asarray(shape(across, down, small_height / _DRAWN_PX, rng), np.float32)
    ends = np.float32(np.quantile(inside, 1 - share))
    hidden = np.clip((inside - ends) / np.float32(_EDGE) + np.float32(0.5), 0, 1)
    hidden = np.asarray(cv2.resize(hidden, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    hidden = blurred(hidden, 0.008 * width)
    # Little light reaches the side that the camera sees, and the more the brighter the scene is.
    lit = np.float32(0.02 + 0.15 * float(brightness(light).mean()))
    shade = np.float32(0.5) + soft_noise(height, width, 4, rng)[..., None]
    return to_image(mixed(light, np.array(color, np.float32) * lit * shade, hidden))


def _blot(across: Light, down: Light, height: float, rng: np.random.Generator) -> Light:
    """Return a round thing with an uneven edge, such as paint or a sticker, anywhere."""
    x, y = _anywhere(height, rng)
    wobble = soft_noise(across.shape[0], across.shape[1], 7, rng) - np.float32(0.5)
    return np.asarray(np.float32(2 * _WOBBLE) * wobble - np.hypot(across - x, down - y), np.float32)


def _finger(across: Light, down: Light, height: float, rng: np.random.Generator) -> Light:
    """Return a rounded thing that reaches in from an edge of the picture."""
    from_side = rng.random() < 0.5
    x = float(rng.integers(2)) if from_side else float(rng.uniform(0.15, 0.85))
    y = float(rng.uniform(0.2, 0.8)) * height if from_side else float(rng.integers(2)) * height
    towards = np.array([0.5 + 0.3 * rng.normal() - x, (0.5 + 0.2 * rng.normal()) * height - y])
    step = _FINGER_LENGTH * towards / max(1e-6, float(np.hypot(*towards)))
    along = ((across - x) * step[0] + (down - y) * step[1]) / np.float32(step @ step)
    along = np.clip(along, 0, 1)
    # Wider at the root than at the tip.
    return np.asarray(-np.hypot(across - x - along * step[0], down - y - along * step[1]) * (0.8 + 0.4 * along))


def _leaf(across: Light, down: Light, height: float, rng: np.random.Generator) -> Light:
    """Return the common part of two circles, with a point at each end, anywhere."""
    x, y = _anywhere(height, rng)
    angle = rng.uniform(0, np.pi)
    aside = _LEAF_WAIST * np.array([np.cos(angle), np.sin(angle)])
    circles = [np.hypot(across - x - sign * aside[0], down - y - sign * aside[1]) for sign in (-1, 1)]
    return np.asarray(-np.maximum(*circles), np.float32)


def _anywhere(height: float, rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    return np.float32(rng.uniform(0.1, 0.9)), np.float32(rng.uniform(0.15, 0.85) * height)


_THINGS: tuple[tuple[Shape, tuple[float, float, float]], ...] = (  # with their colours in BGR
    (_blot, (0.45, 0.45, 0.5)),
    (_finger, (0.35, 0.5, 1.0)),
    (_leaf, (0.2, 0.6, 0.5)),
)
