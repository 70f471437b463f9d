"""Our own backbone: five stages of plain 3x3 convolutions, each of which halves the resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.networks.blocks import ReparameterizedConvolution


class Backbone(nn.Module):
    """Computes features of strides 4, 8, 16 and 32 from images [N, 3, H, W].

    Stage i has `depths[i]` blocks of `widths[i]` channels; its first block has stride 2.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        stages = []
        in_channels = 3
        for width, depth in zip(widths, depths, strict=True):
            blocks = [ReparameterizedConvolution(in_channels, width, stride=2)]
            blocks += [ReparameterizedConvolution(width, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            in_channels = width
        self.stages = nn.ModuleList(stages)

    @torch.no_grad()
    def prepare_export(self, input_divisor: float) -> None:
        """Expect images with values `input_divisor` times as large from now on. Call it after the blocks are fused."""
        first = next(module for module in self.modules() if isinstance(module, nn.Conv2d))
        first.weight.div_(input_divisor)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of strides 4, 8, 16 and 32 of float images [N, 3, H, W]."""
        features = []
        outputs = images
        for stage in self.stages:
            outputs = stage(outputs)
            features.append(outputs)
        return features[1:]
