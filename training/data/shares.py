"""Splits the samples of an epoch among sources by their shares."""

from __future__ import annotations

from collections.abc import Sequence


def split_by_shares(total: int, shares: Sequence[float]) -> list[int]:
    """Return how many of `total` samples each source gives; the parts add up to `total`.

    Args:
        total: Number of samples.
        shares: Share of each source, in any positive scale.
    """
    import numpy as np

    edges = np.round(np.cumsum(shares) / np.sum(shares) * total).astype(int)
    return [int(count) for count in np.diff(edges, prepend=0)]
