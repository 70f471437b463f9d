"""`python -m training compress RECIPE`: prune, distil and quantise a student, and prove what was lost."""

from __future__ import annotations

import argparse
import sys

from ros_kd_perception.model.onnx_file import read_model_file
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.output_paths import check_writable
from training.compression.recipe import EXPORTED, CompressionRecipe
from training.compression.training_step import check_steps
from training.config.loading import load_settings
from training.errors import CheckpointError, DataError
from training.run.devices import add_devices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", type=path_argument, help="a file of training/compressions/")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change one of its keys")
    add_devices(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the chain. Return exit status 0; 1 if the result lost more than the recipe allows."""
    recipe = load_settings(arguments.recipe, CompressionRecipe, arguments.override)
    check_files(recipe)

    from training.compression.chain import BudgetError, compress

    try:
        done = compress(recipe, arguments.accelerator, arguments.devices)
    except BudgetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\n{done.output}: {done.output.stat().st_size / 1e6:.1f} MB; report and pictures: {done.folder}")
    return 0


def check_files(recipe: CompressionRecipe) -> None:
    """Refuse a chain whose files or frames are missing, before anything slow is loaded."""
    check_writable(recipe.folder / recipe.name)
    check_writable(recipe.output.parent)
    if recipe.parent.suffix == EXPORTED:
        read_model_file(recipe.parent)
    else:
        CheckpointError.check_beginning(recipe.parent)
    for score in recipe.scores:
        if not score.frames.image_files():
            raise DataError(f"scores {score.name}: expected frames in {score.frames.folder}, there are none")
    check_steps(recipe)
