"""Changes the size of features: bilinear with aligned corners, and by means of areas."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def enlarged(features: Tensor, height: int, width: int) -> Tensor:
    """Return features in a larger size, bilinear; the centres of the corner cells stay at the corners.

    An exported network gets factors instead of sizes: sizes would need that of the batch, which the CPU computes.

    Args:
        features: Features, float [N, C, h, w].
        height: New height.
        width: New width.
    """
    if not torch.compiler.is_compiling():
        return functional.interpolate(features, size=(height, width), mode="bilinear", align_corners=True)
    factors = [factor(old, new) for old, new in zip(features.shape[-2:], (height, width), strict=True)]
    return functional.interpolate(features, scale_factor=factors, mode="bilinear", align_corners=True)


def factor(old: int, new: int) -> float:
    """Return a number that fits float32 and makes `new` cells of `old`, rounded down, in float32 as in float64."""
    found = np.float32(new / old)
    while int(found * np.float32(old)) < new or int(float(found) * old) < new:
        found = np.nextafter(found, np.float32(np.inf))
    return float(found)


def area_means(features: Tensor, height: int, width: int) -> Tensor:
    """Return features in a smaller size: each cell is the mean of the cells that its area touches.

    It equals `adaptive_avg_pool2d`. The exporter has no operator for that where sizes do not divide. Both axes are then
    reduced by a product with a constant matrix, or, from three cells to two, by the means of neighbours, which is fast.

    Args:
        features: Features, float [N, C, h, w].
        height: New height.
        width: New width.
    """
    rows, columns = features.shape[-2:]
    if not torch.compiler.is_compiling() or (rows % height == 0 and columns % width == 0):
        return functional.adaptive_avg_pool2d(features, (height, width))
    if 2 * rows == 3 * height and 2 * columns == 3 * width:
        return _two_of_three(features)
    return _means(rows, height).to(features) @ features @ _means(columns, width).to(features).T


def _two_of_three(features: Tensor) -> Tensor:
    """Return two cells for each three along both axes: the means of the first two and of the last two."""
    channels = features.shape[1]
    kernels = torch.zeros(2, 2, 3, 3)
    for y in (0, 1):
        for x in (0, 1):
            kernels[y, x, y : y + 2, x : x + 2] = 1 / 4
    kernels = kernels.view(4, 1, 3, 3).repeat(channels, 1, 1, 1).to(features)
    return functional.pixel_shuffle(functional.conv2d(features, kernels, stride=3, groups=channels), 2)


def _means(size: int, reduced: int) -> Tensor:
    """Return the matrix [reduced, size] that takes the mean of each area along one axis."""
    rows = []
    for place in range(reduced):
        start, end = place * size // reduced, math.ceil((place + 1) * size / reduced)
        rows.append([1 / (end - start) if start <= column < end else 0.0 for column in range(size)])
    return torch.tensor(rows)
