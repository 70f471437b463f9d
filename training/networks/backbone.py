"""What every backbone is, and our own: five stages of plain 3x3 convolutions, each of which halves the resolution."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.networks.blocks import ReparameterizedConvolution
from training.networks.quantised_layers import QuantisedConvolution


@dataclass(frozen=True)
class PretrainedClassifier:
    """A classifier of pixels that came with the pretrained weights of a backbone.

    Attributes:
        label_set: Name of the label set of its classes.
        weight: Kernel, float [classes, channels, 1, 1], in the order of the ids.
        bias: Bias, float [classes].
    """

    label_set: str
    weight: Tensor
    bias: Tensor


class FeatureBackbone(nn.Module):
    """Computes features of strides 4, 8, 16 and 32 from images [N, 3, H, W].

    Attributes:
        widths: Channels of the four features.
        configuration: What `rebuild_backbone` needs, as plain values: `model_type` and the settings of that type; None
            for our own backbone, which follows from the size of the student.
        architecture: Name in recipes and errors.
        decodes: Whether the feature of stride 4 comes from a decoder for segmentation: a classifier of each pixel is
            then all that is added for this task.
        plain: Whether all layers are our blocks with rectifiers. Only these can be pruned and rounded to 8 bits.
        pretrained_classifier: What classified the feature of stride 4 of a backbone that decodes, before our classes
            took its place; None without pretrained weights.
        part_of: Name of the architecture that has all layers of this one and more; empty if there is none.
        frozen: Whether the weights and running statistics stay as they are; see `freeze`.
        frozen_statistics: Whether the running statistics stay as they are while the weights are trained; see
            `freeze_statistics`.
    """

    widths: tuple[int, ...]
    configuration: dict[str, Any] | None = None
    architecture: str = "our own"
    decodes: bool = False
    plain: bool = True
    pretrained_classifier: PretrainedClassifier | None = None
    part_of: str = ""
    frozen: bool = False
    frozen_statistics: bool = False

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

    def freeze_statistics(self) -> None:
        """Normalise by the running statistics also in training, and keep them as they are.

        Statistics of small batches are noise to a pretrained network.
        """
        self.frozen_statistics = True
        self.train(self.training)

    def train(self, mode: bool = True) -> FeatureBackbone:
        """Set the mode; what is frozen stays in eval mode, or its running statistics would change."""
        super().train(mode and not self.frozen)
        if self.frozen_statistics:
            for module in self.modules():
                if isinstance(module, _BatchNorm):  # on several GPUs it is a SyncBatchNorm
                    module.eval()
        return self

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
