"""ESPNetv2 of twice the width, with its decoder (Mehta et al., 2019): a small network that knows other cities' streets.

The encoder splits its channels into branches of different dilation. Weights of Cityscapes come from a file; they
include decoder and classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from training.label_sets.loading import load_label_set
from training.networks.backbone import PretrainedClassifier
from training.networks.blocks import NormalizedConvolution
from training.networks.combination import Concatenation, Sum
from training.networks.espnetv2_decoder import PyramidDecoder
from training.networks.espnetv2_weights import LABEL_SET, other_weights, read_published_weights
from training.networks.prelu_blocks import NormalizedPrelu, Prelu, PreluConvolution, replace_prelus
from training.networks.selectable_backbone import SelectableBackbone

BRANCHES = 4
WIDTHS = (32, 128, 256, 512)  # channels at strides 2, 4, 8 and 16
REPEATS = (0, 3, 7)  # units after each halving
WIDE, NARROW = (1, 2, 3, 4), (1, 1, 2, 3)  # dilations of the branches; the paper limits them where features are coarse
DECODER_WIDTHS = (64, 48, 32)
POOLED_CHANNELS = 10


class DilatedBranches(nn.Module):
    """Reduces the channels, convolves them in branches of rising dilation, and mixes what the branches say.

    Each branch adds the one before to its own output, so that wide dilations leave no grid.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int], stride: int) -> None:
        super().__init__()
        width = out_channels // BRANCHES
        self.reduce = PreluConvolution(in_channels, width, kernel_size=1, groups=BRANCHES)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, groups=width, bias=False)
            for dilation in dilations
        )
        self.sums = nn.ModuleList(Sum() for _ in dilations[1:])
        self.concatenation = Concatenation()
        self.normalize = NormalizedPrelu(out_channels)
        self.mix = NormalizedConvolution(out_channels, out_channels, 1, activation=False, groups=BRANCHES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features [N, out_channels, H / stride, W / stride] of features [N, in_channels, H, W]."""
        reduced = self.reduce(inputs)
        first, *others = self.branches
        outputs = [first(reduced)]
        for branch, add in zip(others, self.sums, strict=True):
            outputs.append(add(branch(reduced), outputs[-1]))
        mixed: Tensor = self.mix(self.normalize(self.concatenation(outputs)))
        return mixed


class PyramidUnit(nn.Module):
    """The EESP unit of the paper: branches whose output is added to their input."""

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.branches = DilatedBranches(channels, channels, dilations, stride=1)
        self.sum = Sum()
        self.activation = Prelu(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features of the same shape."""
        outputs: Tensor = self.activation(self.sum(self.branches(inputs), inputs))
        return outputs


class HalvingUnit(nn.Module):
    """The strided EESP unit of the paper: means and branches side by side, and a reminder of the image."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.branches = DilatedBranches(in_channels, out_channels - in_channels, dilations, stride=2)
        self.concatenation = Concatenation()
        self.image = nn.Sequential(
            PreluConvolution(3, 3, kernel_size=3), NormalizedConvolution(3, out_channels, 1, activation=False)
        )
        self.sum = Sum()
        self.activation = Prelu(out_channels)

    def forward(self, inputs: Tensor, image: Tensor) -> Tensor:
        """Return features [N, out_channels, h, w] of features [N, in_channels, 2 h, 2 w] and the image [N, 3, h, w]."""
        joined = self.concatenation([halved(inputs), self.branches(inputs)])
        outputs: Tensor = self.activation(self.sum(joined, self.image(image)))
        return outputs


def halved(features: Tensor) -> Tensor:
    """Return features of half the size: means of 3x3 cells; zeros around the features count."""
    return functional.avg_pool2d(features, kernel_size=3, stride=2, padding=1)


class ESPNetV2(SelectableBackbone):
    """Computes features of strides 8 and 16 by the encoder, that of stride 4 by the decoder.

    The published network for segmentation ends at stride 16; one more halving gives the feature of stride 32.
    """

    architecture = "espnetv2"
    decodes = True
    plain = False
    decoder_widths: ClassVar[tuple[int, ...]] = DECODER_WIDTHS

    def __init__(self) -> None:
        super().__init__()
        self.stem = PreluConvolution(3, WIDTHS[0], kernel_size=3, stride=2)
        self.halvings = nn.ModuleList()
        self.units = nn.ModuleList()
        for inputs, outputs, repeats in zip(WIDTHS[:-1], WIDTHS[1:], REPEATS, strict=True):
            dilations = NARROW if outputs == WIDTHS[-1] else WIDE
            self.halvings.append(HalvingUnit(inputs, outputs, WIDE))
            self.units.append(nn.Sequential(*(PyramidUnit(outputs, dilations) for _ in range(repeats))))
        self.decoder = PyramidDecoder(WIDTHS, self.decoder_widths, POOLED_CHANNELS)
        self.widths = (self.decoder.channels, WIDTHS[2], WIDTHS[3], WIDTHS[3])

    def forward(self, images_bgr: Tensor) -> list[Tensor]:
        """See `FeatureBackbone.forward`."""
        image = self.normalized(images_bgr)
        features = [self.stem(image)]
        image = halved(image)
        for halving, units in zip(self.halvings, self.units, strict=True):
            image = halved(image)
            features.append(units(halving(features[-1], image)))
        return [self.decoder(features), *features[2:], halved(features[-1])]

    @classmethod
    def check_pretrained(cls, name: str) -> None:
        """See `SelectableBackbone.check_pretrained`: the name is the path of a file, which `load_pretrained` checks."""

    def load_pretrained(self, name: str) -> None:
        """Load the published weights of Cityscapes from a file; see `SelectableBackbone.load_pretrained`.

        Layers that the decoder of this class does not have are left out.
        """
        classes = len(load_label_set(LABEL_SET).segmentation)
        published = read_published_weights(Path(name), classes)
        own = self.state_dict()
        try:
            self.load_state_dict({layer: value for layer, value in published.backbone.items() if layer in own})
        except RuntimeError as error:
            raise other_weights(name, str(error).splitlines()[-1].strip()[:200]) from error
        if self.decoder.pyramid is not None:  # what the published classifier reads
            self.pretrained_classifier = PretrainedClassifier(
                LABEL_SET, published.classifier_weight, published.classifier_bias
            )

    def exclude_finest(self) -> None:
        """See `FeatureBackbone.exclude_finest`."""
        self.decoder.requires_grad_(False)

    def prepare_export(self, input_divisor: float) -> None:
        """See `FeatureBackbone.prepare_export`."""
        super().prepare_export(input_divisor)
        replace_prelus(self)


class ESPNetV2Quarter(ESPNetV2):
    """The same without the last stage of the decoder, the slowest: it ends at a quarter of the height and width."""

    architecture = "espnetv2_quarter"
    part_of = ESPNetV2.architecture
    decoder_widths = DECODER_WIDTHS[:2]
