"""What every backbone is, and our own: five stages of plain 3x3 convolutions, each of which halves the resolution."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.networks.blocks import ReparameterizedConvolution
from training.networks.quantised_layers import QuantisedConvolution


class FeatureBackbone(nn.Module):
    """Computes features of strides 4, 8, 16 and 32 from images [N, 3, H, W].

    Attributes:
        widths: Channels of the four features.
        configuration: What `rebuild_backbone` needs, as plain values: `model_type` and the settings of that type; None
            for our own backbone, which follows from the size of the student.
        frozen: Whether the weights and running statistics stay as they are; see `freeze`.
    """

    widths: tuple[int, ...]
    configuration: dict[str, Any] | None = None
    frozen: bool = False

    @abstractmethod
    def forward(self, images_bgr: Tensor) -> list[Tensor]:
        """Return features of strides 4, 8, 16 and 32 of float images [N, 3, H, W], BGR, 0..1, sides multiples of 32."""

    @abstractmethod
    def prepare_export(self, input_divisor: float) -> None:
        """Expect images with values `input_divisor` times as large from now on. Call it after the blocks are fused."""

    def check_size(self, frames: int, height: int, width: int) -> None:
        """Refuse images of a size that the backbone cannot take. By default it takes all multiples of 32.

        Args:
            frames: Number of images.
            height: Height of the images in pixels.
            width: Width of the images in pixels.

        Raises:
            RecipeError: The architecture does not accept this size.
        """

    def freeze(self) -> None:
        """Keep the weights and running statistics as they are, also after `train`."""
        self.requires_grad_(False)
        self.frozen = True
        self.eval()

    def train(self, mode: bool = True) -> FeatureBackbone:
        """Set the mode; a frozen backbone stays in eval mode, or its running statistics would change."""
        return super().train(mode and not self.frozen)

    def exclude_finest(self) -> None:
        """Exclude parameters from training that only the feature of stride 4 depends on. By default there are none."""


class Backbone(FeatureBackbone):
    """Plain convolutions.

    Stage i has `depths[i]` blocks of `widths[i]` channels; its first block has stride 2.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths[1:])
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
        """See `FeatureBackbone.prepare_export`."""
        first = next(module for module in self.modules() if isinstance(module, nn.Conv2d))
        if isinstance(first, QuantisedConvolution):
            first.enlarge_input(input_divisor)
        else:
            first.weight.div_(input_divisor)

    def forward(self, images_bgr: Tensor) -> list[Tensor]:
        """See `FeatureBackbone.forward`."""
        features = []
        outputs = images_bgr
        for stage in self.stages:
            outputs = stage(outputs)
            features.append(outputs)
        return features[1:]
