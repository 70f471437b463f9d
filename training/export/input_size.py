"""The network input that a checkpoint is run at where no other is asked for: the one that it was validated at."""

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
    """The options --height and --width."""
    for name in ("--height", "--width"):
        parser.add_argument(
            name,
            type=whole_number(INPUT_MULTIPLE_PX, MAX_SIDE_PX, INPUT_MULTIPLE_PX),
            help=f"of a checkpoint's input, a multiple of {INPUT_MULTIPLE_PX}; default: as its recipe validates",
        )


def choose_input_size(info: CheckpointInfo, height: int | None, width: int | None) -> tuple[int, int]:
    """Height and width in pixels: those asked for, of the rest those that the checkpoint's recipe validates at.

    Raises:
        CheckpointError: its recipe cannot be read, and not both are given.
    """
    if height is not None and width is not None:
        return height, width
    validation = noted_validation(info)
    if validation is None:
        raise CheckpointError(
            "expected a checkpoint whose recipe tells the input size, this version cannot read its recipe; give "
            "--height and --width"
        )
    return height or validation.input_height, width or validation.input_width


def noted_validation(info: CheckpointInfo) -> ValidationRecipe | None:
    """How the recipe that a checkpoint notes validates; None where this version cannot read that recipe."""
    try:
        return parse_noted_recipe(info.recipe).validation
    except RecipeError:
        return None
