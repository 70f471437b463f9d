"""Modules without weights that combine features, so that each combination has a name and can be changed by itself.

Quantisation-aware training rounds their outputs, and a node of an exported graph is named after its module.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Sum(nn.Module):
    """Adds two features of one shape."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the sum."""
        return first + second


class Concatenation(nn.Module):
    """Puts the channels of several features together."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return features [N, sum of channels, H, W] of features [N, channels, H, W]."""
        return torch.cat(list(features), dim=1)
