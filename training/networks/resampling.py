"""Changes the size of features: bilinear with aligned corners, and by means of areas."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def enlarged(features: Tensor, height: int, width: int) -> Tensor:
    """Return features in a larger size, bilinear; the centres of the corner cells stay at the corners.

    Args:
        features: Features, float [N, C, h, w].
        height: New height.
        width: New width.
    """
    return functional.interpolate(features, size=(height, width), mode="bilinear", align_corners=True)


def area_means(features: Tensor, height: int, width: int) -> Tensor:
    """Return features in a smaller size: each cell is the mean of the cells that its area touches.

    It equals `adaptive_avg_pool2d`. The exporter has no operator for that where sizes do not divide, so both axes are
    reduced by a product with a constant matrix there.

    Args:
        features: Features, float [N, C, h, w].
        height: New height.
        width: New width.
    """
    if not torch.compiler.is_compiling():
        return functional.adaptive_avg_pool2d(features, (height, width))
    rows = _means(features.shape[-2], height).to(features)
    columns = _means(features.shape[-1], width).to(features)
    return rows @ features @ columns.T


def _means(size: int, reduced: int) -> Tensor:
    """Return the matrix [reduced, size] that takes the mean of each area along one axis."""
    rows = []
    for place in range(reduced):
        start, end = place * size // reduced, math.ceil((place + 1) * size / reduced)
        rows.append([1 / (end - start) if start <= column < end else 0.0 for column in range(size)])
    return torch.tensor(rows)
