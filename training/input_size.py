"""The network input that a checkpoint is run at where no other is asked for: the one that it was validated at."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ros_kd_perception.model_contract import MAX_SIDE_PX
from training.arguments import whole_number
from training.errors import CheckpointError, RecipeError
from training.recipe_reader import parse_recipe

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
    try:
        validated = validated_size(info)
    except RecipeError as error:
        raise CheckpointError(f"its recipe tells no input size ({error}); give --height and --width") from error
    return height or validated[0], width or validated[1]


def validated_size(info: CheckpointInfo) -> tuple[int, int]:
    """Height and width in pixels of the network input that a checkpoint's figures are of.

    Raises:
        RecipeError: its recipe cannot be read by this version.
    """
    validation = parse_recipe(info.recipe).validation
    return validation.input_height, validation.input_width
