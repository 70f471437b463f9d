"""Backbones that a recipe selects by name: they normalise their input, and may start from pretrained weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from training.errors import RecipeError
from training.networks.backbone import FeatureBackbone

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION_RGB = (0.229, 0.224, 0.225)


class NormalizedBackbone(FeatureBackbone):
    """Turns BGR into RGB and normalises it by constants.

    The mean is subtracted from the image, not folded into the first convolution: the convolution pads with zeros, which
    stand for the mean.
    """

    def __init__(self, mean_rgb: tuple[float, float, float], deviation_rgb: tuple[float, float, float]) -> None:
        """Keep the constants, for values 0..1."""
        super().__init__()
        # Not persistent, because they are constants.
        self.register_buffer("mean", torch.tensor(mean_rgb).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.register_buffer("deviation", torch.tensor(deviation_rgb).view(1, 3, 1, 1), persistent=False)
        self.deviation: Tensor

    def normalized(self, images_bgr: Tensor) -> Tensor:
        """Return the images in RGB, with the mean subtracted and divided by the deviation."""
        return (images_bgr.flip(1) - self.mean) / self.deviation

    @torch.no_grad()
    def prepare_export(self, input_divisor: float) -> None:
        """See `FeatureBackbone.prepare_export`."""
        self.mean.mul_(input_divisor)
        self.deviation.mul_(input_divisor)


class SelectableBackbone(NormalizedBackbone):
    """A backbone of the table in `training.networks.backbone_table`. It has no settings.

    Attributes:
        pretrained_names: Names of weights that `load_pretrained` takes.
        mean_rgb, deviation_rgb: Constants of the normalisation, for values 0..1.
    """

    pretrained_names: ClassVar[tuple[str, ...]] = ()
    mean_rgb: ClassVar[tuple[float, float, float]] = IMAGENET_MEAN_RGB
    deviation_rgb: ClassVar[tuple[float, float, float]] = IMAGENET_DEVIATION_RGB

    def __init__(self) -> None:
        """Keep the constants of the normalisation. A subclass builds its layers and sets `widths`."""
        super().__init__(self.mean_rgb, self.deviation_rgb)
        self.configuration = {"model_type": self.architecture}

    @classmethod
    def check_pretrained(cls, name: str) -> None:
        """Refuse what `load_pretrained` does not take.

        Args:
            name: `backbone.pretrained` of a recipe, not empty.

        Raises:
            RecipeError: It is none of `pretrained_names`.
        """
        if name not in cls.pretrained_names:
            expected = " or ".join([*cls.pretrained_names, "an empty text"])
            raise RecipeError(
                f"backbone.pretrained: expected {expected} for {cls.architecture}, got {name}; correct it"
            )

    def load_pretrained(self, name: str) -> None:
        """Load weights that `check_pretrained` lets pass. By default there are none.

        Raises:
            RecipeError: The weights are not installed, missing, or cannot be read.
        """
