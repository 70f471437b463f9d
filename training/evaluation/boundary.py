"""Count pixels along the outlines of classes. Thin things are all outline, and hardly count in the IoU of whole masks.

Boundary IoU (B. Cheng et al., Boundary IoU, CVPR 2021, equation 3): of the true and the perceived mask of a class only
the pixels within a distance d of the outline of their own mask count; their intersection is divided by their union.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH_SHARE = 0.005  # d as a share of the diagonal of the image; the paper has 0.02 for single objects
_NEIGHBOURS = np.ones((3, 3), np.uint8)


def boundary_counts(
    perceived: NDArray[np.uint8], truth: NDArray[np.uint8], labeled: NDArray[np.bool_], classes: int
) -> NDArray[np.int32]:
    """Return the pixels of outlines, int32 (classes, 2): those of both masks, and those of either.

    The border of the image is no outline. Pixels without a label count in neither mask.

    Args:
        perceived: Class ids, uint8 (h, w).
        truth: Class ids, uint8 (h, w); ids outside the classes are not labelled.
        labeled: bool (classes,), False for a class that the source does not label; its counts are 0.
        classes: Number of classes.
    """
    counts = np.zeros((classes, 2), np.int32)
    valid = truth < classes
    width_px = max(1, round(WIDTH_SHARE * math.hypot(*truth.shape)))
    there = np.bincount(truth.ravel(), minlength=256) + np.bincount(perceived.ravel(), minlength=256)
    for label in np.flatnonzero(labeled & (there[:classes] > 0)):
        true, seen = (_outline((ids == label) & valid, width_px) for ids in (truth, perceived))
        counts[label] = np.count_nonzero(true & seen), np.count_nonzero(true | seen)
    return counts


def _outline(mask: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask that are at most so far from its outline."""
    inner = cv2.erode(mask.astype(np.uint8), _NEIGHBOURS, iterations=width_px, borderType=cv2.BORDER_REPLICATE)
    outline: NDArray[np.bool_] = mask & (inner == 0)
    return outline
