"""The neck: context at stride 32 and a feature pyramid over strides 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.blocks import NormalizedConvolution, ReparameterizedConvolution
from training.networks.combination import Sum


class PooledContext(nn.Module):
    """Widens the receptive field at stride 32 by three max pools of 5x5 in a row (SPPF, as in YOLOv5).

    It makes up 0.2 % of the network. Unlike a global average, max pools see the same neighbourhood in a training
    crop and in a whole letterboxed frame, and 8-bit quantisation does not change them.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = NormalizedConvolution(in_channels, out_channels, kernel_size=1)
        self.pool = nn.MaxPool2d(kernel_size=5, stride=1, padding=2)
        self.merge = NormalizedConvolution(4 * out_channels, out_channels, kernel_size=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features [N, out_channels, H, W] from features [N, in_channels, H, W]."""
        views = [self.reduce(inputs)]
        for _ in range(3):
            views.append(self.pool(views[-1]))
        merged: Tensor = self.merge(torch.cat(views, dim=1))
        return merged


class FeaturePyramid(nn.Module):
    """A feature pyramid (FPN) over strides 8, 16 and 32, which adds coarse features to finer ones."""

    def __init__(self, in_channels: Sequence[int], channels: int, levels_read: int) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of the backbone's features, fine to coarse.
            channels: Channels of each level.
            levels_read: Number of levels, from the finest on, that heads read. The others have no output layer, which
                would not be trained, and are returned as they are added up.
        """
        super().__init__()
        self.context = PooledContext(in_channels[-1], channels)
        # Without ReLU, because a lateral must be able to lower the features of the coarser level.
        self.laterals = nn.ModuleList(
            NormalizedConvolution(width, channels, kernel_size=1, activation=False) for width in in_channels[:-1]
        )
        self.sums = nn.ModuleList(Sum() for _ in self.laterals)
        self.outputs = nn.ModuleList(ReparameterizedConvolution(channels, channels) for _ in range(levels_read))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels of the pyramid, fine to coarse, from features in the same order."""
        merged = [self.context(features[-1])]
        levels = zip(self.laterals, self.sums, features[:-1], strict=True)
        for lateral, add, feature in reversed(list(levels)):
            above = functional.interpolate(merged[0], scale_factor=2.0, mode="nearest")
            merged.insert(0, add(lateral(feature), above))
        read = len(self.outputs)
        outputs = [output(feature) for output, feature in zip(self.outputs, merged[:read], strict=True)]
        return [*outputs, *merged[read:]]
