"""Textured parallelograms: walls, roofs, hedges, fences and the pictures of trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import Array


@dataclass(frozen=True)
class Texture:
    """A BGR picture with optional coverage, stored in halving sizes so that distant copies do not shimmer.

    `levels` uint8 (h, w, 3); `alphas` uint8 (h, w), the visible coverage; `masks` uint8 (h, w), the pixels that count
    as the object (a person who labels a tree crown or a railing includes its gaps). Empty tuples mean opaque.
    """

    levels: tuple[NDArray[np.uint8], ...]
    alphas: tuple[NDArray[np.uint8], ...] = ()
    masks: tuple[NDArray[np.uint8], ...] = ()

    @classmethod
    def build(
        cls, bgr: NDArray[np.uint8], alpha: NDArray[np.uint8] | None = None, mask: NDArray[np.uint8] | None = None
    ) -> Texture:
        """Build the halving sizes; `mask` defaults to `alpha`."""
        return cls(
            _pyramid(bgr),
            _pyramid(alpha) if alpha is not None else (),
            _pyramid(mask if mask is not None else alpha) if alpha is not None else (),
        )

    def lit(self, gain: float) -> Texture:
        """Return the texture brighter or darker, saturating."""
        levels = tuple(np.asarray(cv2.convertScaleAbs(level, alpha=gain), np.uint8) for level in self.levels)
        return Texture(levels, self.alphas, self.masks)


class Panel:
    """A textured parallelogram in the world. Its picture is drawn when it is first visible.

    `origin` is the lower left corner, `right` and `up` are the edges from it, float64 (3,), metres; `outward` is the
    unit normal of the visible side, or None if both sides are visible; `identity` is written into the id buffer.
    """

    def __init__(
        self,
        origin: Array,
        right: Array,
        up: Array,
        draw: Callable[[], Texture],
        identity: int,
        outward: Array | None = None,
    ) -> None:
        self.origin, self.right, self.up = origin, right, up
        self.identity, self.outward = identity, outward
        self.corners = np.array([origin, origin + right, origin + right + up, origin + up])
        self._draw = draw

    @cached_property
    def texture(self) -> Texture:
        """The texture that is stretched over the panel."""
        return self._draw()

    @property
    def middle(self) -> Array:
        """Centre of the panel, float64 (3,)."""
        return np.asarray(self.corners.mean(axis=0))

    def faces_eye(self, eye: Array) -> bool:
        """Return whether the eye is on the visible side."""
        return self.outward is None or float((eye - self.origin) @ self.outward) > 0.02


def _pyramid(picture: Any) -> tuple[NDArray[np.uint8], ...]:
    levels = [np.ascontiguousarray(picture)]
    while min(levels[-1].shape[:2]) > 8:
        height, width = levels[-1].shape[:2]
        halved: Any = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(halved)
    return tuple(levels)
