"""Choose the network input size for a checkpoint: the requested size, or the validation size of its recipe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ros_kd_perception.model.contract import MAX_SIDE_PX
from training.arguments import whole_number
from training.errors import CheckpointError, RecipeError
from training.recipe import ValidationRecipe, parse_noted_recipe

if TYPE_CHECKING:
    from training.checkpoint import CheckpointInfo

INPUT_MULTIPLE_PX = 32  # the coarsest stride of the network


def add_input_size(parser: argparse.ArgumentParser) -> None:
    """Add the options --height and --width."""
    for name in ("--height", "--width"):
        parser.add_argument(
            name,
            type=whole_number(INPUT_MULTIPLE_PX, MAX_SIDE_PX, INPUT_MULTIPLE_PX),
            help=f"size of a checkpoint's input, a multiple of {INPUT_MULTIPLE_PX}; default: that of its validation",
        )


def choose_input_size(info: CheckpointInfo, height: int | None, width: int | None) -> tuple[int, int]:
    """Return height and width in pixels. A value that is not given is taken from the validation of the recipe.

    Raises:
        CheckpointError: The checkpoint's recipe cannot be read, and one of the values is not given.
    """
    if height is not None and width is not None:
        return height, width
    validation = noted_validation(info)
    if validation is None:
        raise CheckpointError(
            "expected a checkpoint whose recipe has the input size, but this version cannot read its recipe; give "
            "--height and --width"
        )
    return height or validation.input_height, width or validation.input_width


def noted_validation(info: CheckpointInfo) -> ValidationRecipe | None:
    """Return the validation settings of the recipe in a checkpoint; None if this version cannot read that recipe."""
    try:
        return parse_noted_recipe(info.recipe).validation
    except RecipeError:
        return None
