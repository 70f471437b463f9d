"""Backbones that the AutoBackbone of the transformers library builds, with features at the strides of our own."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from training.config.sections import BackboneRecipe
from training.config.sentences import suggestion
from training.errors import RecipeError
from training.networks.backbone_table import BACKBONES
from training.networks.selectable_backbone import IMAGENET_DEVIATION_RGB, IMAGENET_MEAN_RGB, NormalizedBackbone

if TYPE_CHECKING:
    # Functions import it when a recipe asks for such a backbone, because it takes seconds to load.
    from transformers import PreTrainedConfig, PreTrainedModel

STRIDES = (4, 8, 16, 32)
# Multiples of 32 and of 14, the patch of DINOv2. Not square, because some architectures accept one square size only.
PROBE_HEIGHT, PROBE_WIDTH = 224, 448
# A file of weights may lack the normalisations that transformers adds after each stage whose features it returns.
ADDED_WEIGHTS = "hidden_states_norms."
DERIVED_SETTINGS = {"stage_names", "out_features", "out_indices", "transformers_version"}


class TransformersBackbone(NormalizedBackbone):
    """Computes features with a network of the transformers library.

    Each stride takes the deepest stage that has it, or the deepest stage of the nearest stride, resampled bilinearly. A
    plain vision transformer has one stride; four stages at equal steps through its depth are resampled. If the patch
    size does not divide 32, the image is first enlarged to whole patches, so that features keep their positions.

    Attributes:
        configuration: Configuration of the architecture with all defaults.
        architecture: Model type.
    """

    plain = False

    def __init__(self, config: PreTrainedConfig, pretrained: str = "") -> None:
        """Build the network.

        Args:
            config: Configuration of the architecture.
            pretrained: Name on the model hub or folder of the weights; empty for random weights.

        Raises:
            RecipeError: transformers cannot build it, it returns no feature maps, or its weights cannot be read.
        """
        super().__init__(IMAGENET_MEAN_RGB, IMAGENET_DEVIATION_RGB)
        self.architecture = str(config.model_type)
        with _refusal_of(self.architecture, PROBE_HEIGHT, PROBE_WIDTH):
            self._build(config, pretrained)

    def _build(self, config: PreTrainedConfig, pretrained: str) -> None:
        """Choose the stages by their outputs for a test image, and build a network that returns only these."""
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
        # Training on several devices waits for the gradient of every parameter, and would wait for theirs forever.
        _freeze_unused(self.model, sorted(set(self.levels)))

    def forward(self, images_bgr: Tensor) -> list[Tensor]:
        """See `FeatureBackbone.forward`."""
        height, width = (int(side) for side in images_bgr.shape[-2:])
        inputs = self.normalized(images_bgr)
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
        """Run once on black images; see `FeatureBackbone.check_size`.

        Some architectures divide images into windows of a fixed size.
        """
        training, images = self.training, torch.zeros(frames, 3, height, width)
        with _refusal_of(self.architecture, height, width):
            self.eval()(images)
        self.train(training)

    def exclude_finest(self) -> None:
        """See `FeatureBackbone.exclude_finest`: some stages normalise their output for the caller only."""
        if self.levels[0] not in self.levels[1:]:
            _freeze_unused(self.model, sorted(set(self.levels[1:])))

    def prepare_export(self, input_divisor: float) -> None:
        """See `FeatureBackbone.prepare_export`; attention is then computed in a form that exports."""
        super().prepare_export(input_divisor)
        self.model.set_attn_implementation("eager")


def build_transformers_backbone(recipe: BackboneRecipe, pretrained: bool = True) -> TransformersBackbone:
    """Build the backbone that a recipe asks for.

    Args:
        recipe: Section of the recipe.
        pretrained: Whether to load the weights that the recipe names. Their configuration is read in any case.

    Raises:
        RecipeError: An architecture or setting is unknown, or the weights are not available.
    """
    config = _read_config(recipe)
    return TransformersBackbone(config, recipe.pretrained if pretrained else "")


def rebuild_transformers_backbone(configuration: Mapping[str, Any]) -> TransformersBackbone:
    """Build a backbone of the same shape as before, with random weights. It fetches nothing.

    Args:
        configuration: The attribute `configuration` of the earlier backbone.

    Raises:
        RecipeError: This version of transformers cannot build it.
    """
    settings = {key: value for key, value in configuration.items() if key != "model_type"}
    return TransformersBackbone(_make_config(str(configuration.get("model_type")), settings))


def choose_stages(strides: Sequence[int]) -> list[int]:
    """Choose the stages of a backbone that give the features of strides 4, 8, 16 and 32.

    For each of them, this is the deepest stage of the nearest stride, by ratio; of two equally near strides, the finer.
    If all stages have one stride, stages at four equal steps through the depth are chosen (like DPT; Ranftl et al.,
    2021), without the first one, which is an embedding.

    Args:
        strides: Stride of each stage.

    Returns:
        Index of a stage for each of `STRIDES`.
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
    """Return the configuration that a recipe asks for, after checking its keys."""
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
    except Exception as error:  # the readers raise many types of errors for damaged files
        raise RecipeError(_unavailable(recipe.pretrained, error)) from error
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
        near = suggestion(architecture, sorted([*BACKBONES, *MODEL_FOR_BACKBONE_MAPPING_NAMES]))
        own = ", ".join(BACKBONES)
        raise RecipeError(
            f"backbone.architecture: expected {own} or a model type of transformers, got {architecture}{near}"
        )
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[architecture](**settings)
    except Exception as error:  # each architecture raises its own types of errors
        raise RecipeError(
            f"backbone.settings: expected a configuration of {architecture}, transformers says: {_sentence(error)}; "
            "compare with the documentation of that architecture"
        ) from error
    for key, value in list(vars(config).items()):
        if isinstance(value, tuple):  # a default; the network may add a list to it
            setattr(config, key, list(value))
    return config


def _plain_configuration(config: PreTrainedConfig) -> dict[str, Any]:
    """Return a configuration as plain values, without derived settings and the names of other tasks' classes."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    left_out = DERIVED_SETTINGS | {"id2label", "label2id", "architectures", "dtype", "_name_or_path"}
    return {key: value for key, value in values.items() if key not in left_out}


def _stage_names(config: PreTrainedConfig) -> list[str]:
    """Return the stages that AutoBackbone can return features of; empty if it does not know the architecture."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

    return list(config.stage_names) if type(config) in MODEL_FOR_BACKBONE_MAPPING else []


def _build(config: PreTrainedConfig, stages: list[str], pretrained: str = "") -> PreTrainedModel:
    """Build a network that returns these stages; without stages, an image model whose hidden states are used."""
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
        # In full precision, whatever dtype the configuration names.
        model: PreTrainedModel = automatic.from_config(config, dtype=torch.float32)
    except Exception as error:  # each architecture raises its own types of errors
        raise RecipeError(
            f"backbone.settings: transformers cannot build a {config.model_type} of them ({_sentence(error)}); "
            "compare with the documentation of that architecture"
        ) from error
    return model


def _load(network: Any, config: PreTrainedConfig, pretrained: str) -> PreTrainedModel:
    """Build the class `network` with weights from a folder or from the hub."""
    try:
        model, loaded = network.from_pretrained(
            pretrained,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # the readers raise many types of errors for damaged files
        raise RecipeError(_unavailable(pretrained, error)) from error
    missing = sorted(name for name in loaded["missing_keys"] if not name.startswith(ADDED_WEIGHTS))
    if missing:
        raise RecipeError(
            f"backbone.pretrained {pretrained} lacks {len(missing)} weights of the backbone, such as {missing[0]}; "
            "leave it empty for a random start, or take backbone.settings back that change the shape"
        )
    built: PreTrainedModel = model
    return built


def _probe(model: PreTrainedModel) -> list[Tensor]:
    """Return the features of every stage for a black image of PROBE_HEIGHT x PROBE_WIDTH pixels."""
    with torch.no_grad():
        maps = list(_feature_maps(model.train(False), torch.zeros(1, 3, PROBE_HEIGHT, PROBE_WIDTH)))
    if not maps or any(level.ndim != 4 or level.shape[2] > level.shape[3] for level in maps):
        raise RecipeError(f"backbone.architecture {model.config.model_type} gives no feature maps; choose another")
    return maps


@contextmanager
def _refusal_of(architecture: str, height: int, width: int) -> Iterator[None]:
    """Turn any error while an architecture is built and run on images of a size into a RecipeError.

    The architecture may need a package that is not installed, have no stages, need more inputs than images, or accept
    only one size. Each raises its own types of errors.
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


def _freeze_unused(model: PreTrainedModel, levels: Sequence[int]) -> None:
    """Exclude parameters from training that none of the features `levels` depends on."""
    training, trained = model.training, [parameter for parameter in model.parameters() if parameter.requires_grad]
    maps = _feature_maps(model.train(False), torch.zeros(1, 3, PROBE_HEIGHT, PROBE_WIDTH))
    torch.autograd.backward([maps[level].sum() for level in levels])
    for parameter in trained:
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    model.train(training)


def _feature_maps(model: PreTrainedModel, images: Tensor) -> Sequence[Tensor]:
    outputs = model(images, output_hidden_states=True)
    maps: Sequence[Tensor] = outputs.feature_maps if "feature_maps" in outputs else outputs.hidden_states
    return maps


def _resampled(features: Tensor, height: int, width: int) -> Tensor:
    if tuple(features.shape[-2:]) == (height, width):
        return features
    return functional.interpolate(features, size=(height, width), mode="bilinear", align_corners=False)


def _unavailable(pretrained: str, error: Exception) -> str:
    return (
        f"backbone.pretrained: expected a model on the hub, or a local folder with config.json and model.safetensors, "
        f"but {pretrained} is not available ({_sentence(error)}); leave it empty for a random start, or give "
        "such a folder"
    )


def _sentence(error: Exception) -> str:
    """Return the message of an error of the library in one line, at most 200 characters."""
    return " ".join(str(error).split())[:200]
