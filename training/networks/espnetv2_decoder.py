"""The decoder of ESPNetv2 for segmentation: pooled pyramids, from the coarsest features to the finest.

It is the decoder of the published weights for streets (github.com/sacmehta/EdgeNets), not that of the paper: efficient
pyramid pooling (Mehta, Hajishirzi and Rastegari, DiCENet, 2019) takes the place of the paper's plain one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.combination import Concatenation, Sum
from training.networks.memory_layout import pixel_by_pixel
from training.networks.prelu_blocks import NormalizedPrelu, PreluConvolution
from training.networks.resampling import area_means, enlarged

SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)  # of the features that a level of the pyramid convolves
SMALLEST_SIDE = 5  # of the features at a scale


class PooledPyramid(nn.Module):
    """Convolves few channels at five scales, channel by channel, and merges what the scales say about each channel."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = PreluConvolution(in_channels, channels, kernel_size=1)
        self.levels = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False) for _ in SCALES
        )
        self.concatenation = Concatenation()
        self.normalize = NormalizedPrelu(len(SCALES) * channels)
        self.merge = PreluConvolution(len(SCALES) * channels, channels, kernel_size=3, groups=channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features [N, channels, H, W] of features [N, in_channels, H, W]."""
        reduced = self.reduce(inputs)
        levels = [_at_scale(reduced, scale, level) for scale, level in zip(SCALES, self.levels, strict=True)]
        features = self.normalize(self.concatenation(levels))
        # A group of the merging convolution reads one channel of all scales.
        merged: Tensor = self.merge(functional.channel_shuffle(features, len(SCALES)))
        return merged


def _at_scale(features: Tensor, scale: float, convolution: nn.Module) -> Tensor:
    """Return the convolution of features that are resized by `scale`, in the size of the features."""
    height, width = features.shape[-2:]
    if scale == 1:
        return torch.as_tensor(convolution(features))
    sides = (max(SMALLEST_SIDE, math.ceil(side * scale)) for side in (height, width))
    if scale > 1:
        return area_means(convolution(enlarged(features, *sides)), height, width)
    return enlarged(convolution(area_means(features, *sides)), height, width)


class GatedProjection(nn.Module):
    """Changes the number of channels by a grouped convolution; the mean of the whole image weighs each new channel."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        groups = math.gcd(in_channels, out_channels)
        self.project = PreluConvolution(in_channels, out_channels, kernel_size=3, groups=groups)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features [N, out_channels, H, W] of features [N, in_channels, H, W]."""
        gates = self.gate(inputs.mean(dim=(2, 3), keepdim=True)).sigmoid()
        weighed: Tensor = self.project(pixel_by_pixel(inputs)).contiguous() * gates
        return weighed


class DecoderStage(nn.Module):
    """A pooled pyramid, widened, enlarged twofold, and added to the projection of finer features."""

    def __init__(self, in_channels: int, pooled_channels: int, fine_channels: int, channels: int) -> None:
        super().__init__()
        self.pyramid = PooledPyramid(in_channels, pooled_channels)
        self.widen = PreluConvolution(pooled_channels, channels, kernel_size=1)
        self.lateral = GatedProjection(fine_channels, channels)
        self.sum = Sum()
        self.normalize = NormalizedPrelu(channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return features of the size of `fine`, which is twice that of `coarse`."""
        widened = self.widen(self.pyramid(coarse))
        above = enlarged(widened, 2 * widened.shape[-2], 2 * widened.shape[-1])
        outputs: Tensor = self.normalize(self.sum(self.lateral(fine), above))
        return outputs


class PyramidDecoder(nn.Module):
    """Stages from features of stride 16 to finer ones: one more for each width.

    With three stages, a last pooled pyramid follows at stride 2, as in the published network, whose classifier reads
    it. The logits are a linear function of these features, so a classifier of their means at stride 4 gives the means
    of the logits. With two stages, the decoder ends at stride 4.
    """

    def __init__(self, fine_to_coarse: Sequence[int], widths: Sequence[int], pooled_channels: int) -> None:
        """Build the layers.

        Args:
            fine_to_coarse: Channels of the encoder's features of strides 2, 4, 8 and 16.
            widths: Channels of the two or three stages, from the coarsest on.
            pooled_channels: Channels inside of the pyramids.
        """
        super().__init__()
        *finer, channels = fine_to_coarse
        stages = []
        for fine, width in zip(reversed(finer), widths, strict=False):
            stages.append(DecoderStage(channels, pooled_channels, fine, width))
            channels = width
        self.stages = nn.ModuleList(stages)
        self.pyramid = PooledPyramid(channels, pooled_channels) if len(widths) == len(finer) else None
        self.channels = pooled_channels if self.pyramid else channels

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return features [N, channels, H / 4, W / 4] of features of strides 2, 4, 8 and 16."""
        *finer, outputs = features
        for stage, fine in zip(self.stages, reversed(finer), strict=False):
            outputs = stage(outputs, fine)
        return functional.avg_pool2d(self.pyramid(outputs), 2) if self.pyramid else outputs
