"""Builds the backbone that a recipe selects: one of this folder's table, or one of the transformers library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.config.sections import BackboneRecipe
from training.errors import RecipeError
from training.networks.auto_backbone import build_transformers_backbone, rebuild_transformers_backbone
from training.networks.backbone import FeatureBackbone
from training.networks.backbone_table import BACKBONES
from training.networks.selectable_backbone import SelectableBackbone


def build_backbone(recipe: BackboneRecipe, pretrained: bool = True) -> FeatureBackbone:
    """Build the backbone that a recipe asks for, frozen if the recipe says so.

    Args:
        recipe: Section of the recipe.
        pretrained: Whether to load the weights that the recipe names. The configuration of a backbone of transformers
            is read from there in any case.

    Raises:
        RecipeError: An architecture or setting is unknown, or the weights are not available.
    """
    network = BACKBONES.get(recipe.architecture)
    if network is None:
        backbone: FeatureBackbone = build_transformers_backbone(recipe, pretrained)
    else:
        backbone = _build(network, recipe, pretrained)
    if recipe.frozen:
        backbone.freeze()
    if recipe.frozen_statistics:
        backbone.freeze_statistics()
    return backbone


def rebuild_backbone(configuration: Mapping[str, Any]) -> FeatureBackbone:
    """Build a backbone of the same shape as before, with random weights. It fetches nothing.

    Args:
        configuration: The attribute `configuration` of the earlier backbone.

    Raises:
        RecipeError: This version of transformers cannot build it.
    """
    network = BACKBONES.get(str(configuration.get("model_type")))
    return network() if network else rebuild_transformers_backbone(configuration)


def _build(network: type[SelectableBackbone], recipe: BackboneRecipe, pretrained: bool) -> SelectableBackbone:
    if recipe.settings:
        raise RecipeError(
            f"backbone.settings: expected no keys, {recipe.architecture} has no settings, got "
            f"{', '.join(sorted(recipe.settings))}; leave them out"
        )
    if recipe.pretrained:
        network.check_pretrained(recipe.pretrained)
    backbone = network()
    if recipe.pretrained and pretrained:
        backbone.load_pretrained(recipe.pretrained)
    return backbone
