"""SqueezeNet 1.1 (Iandola et al., 2016): fire modules, which squeeze the channels before they convolve them."""

from __future__ import annotations

from torch import Tensor, nn

from training.networks.blocks import NormalizedConvolution
from training.networks.combination import Concatenation
from training.networks.selectable_backbone import SelectableBackbone

STEM_CHANNELS = 64
# Channels after the squeeze, and of each of the two expansions, of the fire modules between two poolings.
STAGES = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = NormalizedConvolution(in_channels, squeezed, kernel_size=1)
        self.pointwise = NormalizedConvolution(squeezed, expanded, kernel_size=1)
        self.spatial = NormalizedConvolution(squeezed, expanded, kernel_size=3)
        self.concatenation = Concatenation()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features [N, 2 expanded, H, W] of features [N, in_channels, H, W]."""
        squeezed = self.squeeze(inputs)
        features: Tensor = self.concatenation([self.pointwise(squeezed), self.spatial(squeezed)])
        return features


class SqueezeNet(SelectableBackbone):
    """Computes features with the convolutions of SqueezeNet 1.1, without its classifier.

    Two things differ from the paper. Each convolution is followed by batch normalisation, which is folded into it at
    export, so that training may start from random weights. The paper's network ends at stride 16; one more pooling
    gives the feature of stride 32.
    """

    architecture = "squeezenet"

    def __init__(self) -> None:
        super().__init__()
        self.stem = NormalizedConvolution(3, STEM_CHANNELS, kernel_size=3, stride=2)
        # Padded, so that each pooling halves the size exactly.
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        channels, stages = STEM_CHANNELS, []
        for fires in STAGES:
            blocks = []
            for squeezed, expanded in fires:
                blocks.append(Fire(channels, squeezed, expanded))
                channels = 2 * expanded
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        ends = [2 * fires[-1][1] for fires in STAGES]
        self.widths = (*ends, ends[-1])

    def forward(self, images_bgr: Tensor) -> list[Tensor]:
        """See `FeatureBackbone.forward`."""
        outputs, features = self.stem(self.normalized(images_bgr)), []
        for stage in self.stages:
            outputs = stage(self.pool(outputs))
            features.append(outputs)
        return [*features, self.pool(outputs)]
