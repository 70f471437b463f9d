"""Backbones of the transformers library: any that its AutoBackbone builds, with features at the strides of ours."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config.sections import BackboneRecipe
from training.config.sentences import suggestion
from training.errors import RecipeError

if TYPE_CHECKING:
    # At run time it is imported where a recipe asks for it: it takes seconds to load.
    from transformers import PreTrainedConfig, PreTrainedModel

STRIDES = (4, 8, 16, 32)
# Multiples of 32 and of 14, the patch of DINOv2; not square, as some architectures take one size alone.
PROBE_HEIGHT, PROBE_WIDTH = 224, 448
IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION_RGB = (0.229, 0.224, 0.225)
# What a file of weights may lack: the normalisations that transformers puts after a stage whose features are asked for.
ADDED_WEIGHTS = "hidden_states_norms."
DERIVED_SETTINGS = {"stage_names", "out_features", "out_indices", "transformers_version"}


class TransformersBackbone(nn.Module):
    """Images [N, 3, H, W] to features of strides 4, 8, 16 and 32, as our own `Backbone` gives.

    For each stride the deepest stage of that stride speaks, or of the nearest one, resampled bilinearly. A plain vision
    transformer has one stride; four stages in equal steps through its depth are resampled. Where the patch does not
    divide 32, the image is first enlarged to whole patches, so that features stay where they belong.

    Attributes:
        widths: channels of the four features.
        configuration: of the architecture with all defaults, plain values; `rebuild_backbone` makes the same again.
    """

    def __init__(self, config: PreTrainedConfig, pretrained: str = "") -> None:
        """Build by a configuration, with random weights, or those of `pretrained`.

        Raises:
            RecipeError: transformers cannot build it, it gives no feature maps, or its weights cannot be read.
        """
        super().__init__()
        with _refusal_of(config.model_type, PROBE_HEIGHT, PROBE_WIDTH):
            self._build(config, pretrained)
        # Not persistent: they are the same for all weights.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN_RGB).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION_RGB).view(1, 3, 1, 1), persistent=False)
        self.deviation: Tensor

    def _build(self, config: PreTrainedConfig, pretrained: str) -> None:
        """Choose the stages by what each says of an image, and build the network that gives those alone."""
        names = _stage_names(config)
        maps = _probe(_build(config, names))
        strides = [round(PROBE_HEIGHT / level.shape[2]) for level in maps]
        chosen = choose_stages(strides)
        self.widths = tuple(int(maps[stage].shape[1]) for stage in chosen)
        self.patch_px = next((stride for stride in strides if 32 % stride), 1)
        used = sorted(set(chosen)) if names else list(range(len(strides)))
        self.levels = tuple(used.index(stage) for stage in chosen)
        self.model = _build(config, [names[stage] for stage in used] if names else [], pretrained)
        self.configuration = _plain_configuration(config)
        # Without gradient they would stop training on several devices, which waits for that of every parameter.
        _freeze_unused(self.model)

    def forward(self, images_bgr: Tensor) -> list[Tensor]:
        """Features of strides 4, 8, 16 and 32 of float images [N, 3, H, W], BGR, 0..1, sides multiples of 32."""
        height, width = (int(side) for side in images_bgr.shape[-2:])
        inputs = (images_bgr.flip(1) - self.mean) / self.deviation
        if self.patch_px > 1:
            whole = [math.ceil(side / self.patch_px) * self.patch_px for side in (height, width)]
            inputs = functional.interpolate(inputs, size=whole, mode="bilinear", align_corners=False)
        maps = _feature_maps(self.model, inputs)
        return [
            _resampled(maps[level], height // stride, width // stride)
            for level, stride in zip(self.levels, STRIDES, strict=True)
        ]

    @torch.no_grad()
    def check_size(self, frames: int, height: int, width: int) -> None:
        """Run once on so many images of `height` x `width` pixels.

        Raises:
            RecipeError: it cannot be; some architectures cut images into windows that a size must fill.
        """
        training, images = self.training, torch.zeros(frames, 3, height, width)
        with _refusal_of(str(self.configuration["model_type"]), height, width):
            self.eval()(images)
        self.train(training)

    @torch.no_grad()
    def prepare_export(self, input_divisor: float) -> None:
        """From now on take images so many times as large, and compute attention by operators that can be exported."""
        self.mean.mul_(input_divisor)
        self.deviation.mul_(input_divisor)
        self.model.set_attn_implementation("eager")


def build_backbone(recipe: BackboneRecipe, pretrained: bool = True) -> TransformersBackbone:
    """The backbone that a recipe asks for.

    Args:
        recipe: checked.
        pretrained: whether to take the weights that the recipe names; its configuration is read in any case.

    Raises:
        RecipeError: an unknown architecture or setting, or weights that cannot be had.
    """
    config = _read_config(recipe)
    return TransformersBackbone(config, recipe.pretrained if pretrained else "")


def rebuild_backbone(configuration: Mapping[str, Any]) -> TransformersBackbone:
    """A backbone of the same shape as that whose `configuration` is given, with random weights; fetches nothing.

    Raises:
        RecipeError: this version of transformers cannot build it.
    """
    settings = {key: value for key, value in configuration.items() if key != "model_type"}
    return TransformersBackbone(_make_config(str(configuration.get("model_type")), settings))


def choose_stages(strides: Sequence[int]) -> list[int]:
    """Which of a backbone's stages, given the stride of each, speak for strides 4, 8, 16 and 32.

    The deepest of the nearest stride, as a ratio; of two equally near, the finer. Where all have one stride, stages in
    four equal steps through the depth (as DPT does; Ranftl et al., 2021), the first of all, an embedding, left out.
    """
    last = len(strides) - 1
    if len(set(strides)) == 1:
        return [math.ceil(quarter * last / 4) for quarter in (1, 2, 3, 4)]
    chosen = []
    for wanted in STRIDES:
        nearest = min(set(strides), key=lambda stride: (abs(math.log2(stride / wanted)), stride))
        chosen.append(max(stage for stage, stride in enumerate(strides) if stride == nearest))
    return chosen


def _read_config(recipe: BackboneRecipe) -> PreTrainedConfig:
    """The configuration that a recipe asks for, its keys checked."""
    from transformers import AutoConfig, PreTrainedConfig

    defaults = _make_config(recipe.architecture, {}).to_dict()
    known = sorted(defaults.keys() - PreTrainedConfig().to_dict().keys() - DERIVED_SETTINGS)
    for key in recipe.settings:
        if key not in known:
            raise RecipeError(f"backbone.settings.{key} is no setting of {recipe.architecture}{suggestion(key, known)}")
    if not recipe.pretrained:
        return _make_config(recipe.architecture, recipe.settings)
    try:
        config = AutoConfig.from_pretrained(recipe.pretrained, trust_remote_code=False)
    except Exception as error:  # damaged files make the readers raise nearly anything
        raise RecipeError(_not_to_be_had(recipe.pretrained, error)) from error
    if config.model_type != recipe.architecture:
        raise RecipeError(
            f"backbone.pretrained {recipe.pretrained} is a {config.model_type}, but backbone.architecture is "
            f"{recipe.architecture}; change one of them"
        )
    return _make_config(recipe.architecture, _plain_configuration(config) | recipe.settings)


def _make_config(architecture: str, settings: Mapping[str, Any]) -> PreTrainedConfig:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING_NAMES

    if architecture not in CONFIG_MAPPING:
        near = suggestion(architecture, sorted(MODEL_FOR_BACKBONE_MAPPING_NAMES))
        raise RecipeError(f"backbone.architecture {architecture} is unknown to transformers{near}")
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[architecture](**settings)
    except Exception as error:  # each architecture refuses in its own way
        raise RecipeError(
            f"backbone.settings: expected a configuration of {architecture}, transformers says: {_sentence(error)}; "
            "compare with the documentation of that architecture"
        ) from error
    for key, value in list(vars(config).items()):
        if isinstance(value, tuple):  # a default of its own, to which its network may want to add a list
            setattr(config, key, list(value))
    return config


def _plain_configuration(config: PreTrainedConfig) -> dict[str, Any]:
    """A configuration as plain values, without what follows from the rest and the names of foreign classes."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    left_out = DERIVED_SETTINGS | {"id2label", "label2id", "architectures", "dtype", "_name_or_path"}
    return {key: value for key, value in values.items() if key not in left_out}


def _stage_names(config: PreTrainedConfig) -> list[str]:
    """The stages that AutoBackbone can be asked for; empty where it does not know the architecture."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

    return list(config.stage_names) if type(config) in MODEL_FOR_BACKBONE_MAPPING else []


def _build(config: PreTrainedConfig, stages: list[str], pretrained: str = "") -> PreTrainedModel:
    """The network that gives these stages; without any, a plain model of images, whose hidden states are its stages."""
    from transformers import AutoBackbone, AutoModel
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING, MODEL_MAPPING

    if stages:
        config.out_features = stages
    automatic: Any = AutoBackbone if stages else AutoModel
    network: Any = (MODEL_FOR_BACKBONE_MAPPING if stages else MODEL_MAPPING).get(type(config), None)
    if getattr(network, "main_input_name", "") != "pixel_values":
        raise RecipeError(
            f"backbone.architecture {config.model_type} is not a network for images that can be built here"
        )
    if pretrained:
        return _load(network, config, pretrained)
    try:
        # In full precision whatever the configuration says of the weights that it came with.
        model: PreTrainedModel = automatic.from_config(config, dtype=torch.float32)
    except Exception as error:  # each architecture refuses in its own way
        raise RecipeError(
            f"backbone.settings: transformers cannot build a {config.model_type} of them ({_sentence(error)}); "
            "compare with the documentation of that architecture"
        ) from error
    return model


def _load(network: Any, config: PreTrainedConfig, pretrained: str) -> PreTrainedModel:
    """The class `network` with the weights of a folder or of the hub."""
    try:
        model, loaded = network.from_pretrained(
            pretrained,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # damaged files make the readers raise nearly anything
        raise RecipeError(_not_to_be_had(pretrained, error)) from error
    missing = sorted(name for name in loaded["missing_keys"] if not name.startswith(ADDED_WEIGHTS))
    if missing:
        raise RecipeError(
            f"backbone.pretrained {pretrained} lacks {len(missing)} weights of the backbone, such as {missing[0]}; "
            "leave it empty for a random start, or take backbone.settings back that change the shape"
        )
    built: PreTrainedModel = model
    return built


def _probe(model: PreTrainedModel) -> list[Tensor]:
    """What every stage says of an image of PROBE_HEIGHT x PROBE_WIDTH pixels."""
    with torch.no_grad():
        maps = list(_feature_maps(model.train(False), torch.zeros(1, 3, PROBE_HEIGHT, PROBE_WIDTH)))
    if not maps or any(level.ndim != 4 or level.shape[2] > level.shape[3] for level in maps):
        raise RecipeError(f"backbone.architecture {model.config.model_type} gives no feature maps; choose another")
    return maps


@contextmanager
def _refusal_of(architecture: str, height: int, width: int) -> Iterator[None]:
    """Make a sentence of whatever an architecture raises while it is built and run once on images of a size.

    It may need a package that is not here, have no stages, take no images alone or one size alone: each refuses in its
    own way.
    """
    try:
        yield
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"backbone.architecture {architecture} cannot be run on images of {width}x{height} here "
            f"({type(error).__name__}: {_sentence(error)}); change backbone.settings, or choose another such as "
            "convnextv2, resnet or swin"
        ) from error


def _freeze_unused(model: PreTrainedModel) -> None:
    """Leave parameters that no feature depends on out of the training."""
    maps = _feature_maps(model.train(False), torch.zeros(1, 3, PROBE_HEIGHT, PROBE_WIDTH))
    torch.autograd.backward([level.sum() for level in maps])
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    model.train()


def _feature_maps(model: PreTrainedModel, images: Tensor) -> Sequence[Tensor]:
    outputs = model(images, output_hidden_states=True)
    maps: Sequence[Tensor] = outputs.feature_maps if "feature_maps" in outputs else outputs.hidden_states
    return maps


def _resampled(features: Tensor, height: int, width: int) -> Tensor:
    if tuple(features.shape[-2:]) == (height, width):
        return features
    return functional.interpolate(features, size=(height, width), mode="bilinear", align_corners=False)


def _not_to_be_had(pretrained: str, error: Exception) -> str:
    return (
        f"backbone.pretrained: expected a model on the hub, or a local folder with config.json and model.safetensors, "
        f"but {pretrained} cannot be had ({_sentence(error)}); leave it empty for a random start, or give such a folder"
    )


def _sentence(error: Exception) -> str:
    """What an error of the library says, in one line; its messages have many."""
    return " ".join(str(error).split())[:200]
