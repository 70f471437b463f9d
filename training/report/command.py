"""`python -m training report RECIPE`: one page about a model, with a verdict."""

from __future__ import annotations

import argparse
import sys

from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.output_paths import check_writable
from training.config.loading import load_settings
from training.data.readers.bag import BagSource
from training.errors import DataError
from training.evaluation.bag_frames import check_bag
from training.evaluation.command import check_model_file
from training.report.recipe import ReportRecipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", type=path_argument, help="a file of training/reports/")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change one of its keys")


def run(arguments: argparse.Namespace) -> int:
    """Write the report. Return exit status 0; 1 if the model fails; 2 with one sentence if the input is wrong."""
    recipe = load_settings(arguments.recipe, ReportRecipe, arguments.override)
    folder = recipe.folder / recipe.name
    check_files(recipe)

    from ros_kd_perception.model.onnx_file import ModelFileError
    from ros_kd_perception.model.onnx_model import ModelError
    from training.report.measure import measure, open_models
    from training.report.verdict import verdict_of
    from training.report.write import write_report

    try:
        measured = measure(recipe, open_models(recipe), folder / "kept")
    except (ModelError, ModelFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    verdict = verdict_of(measured)
    write_report(folder, measured, verdict)
    print(f"{verdict.headline}.")
    for sentence in (*verdict.failed, *verdict.good, *verdict.open):
        print(f"  {sentence}")
    print(f"{folder / 'report.html'}: the page; report.json has every figure, card.md the part of a model card")
    return 0 if verdict.passed else 1


def check_files(recipe: ReportRecipe) -> None:
    """Refuse a report whose files or frames are missing, before anything slow is loaded."""
    check_writable(recipe.folder / recipe.name)
    for path in recipe.models.values():
        check_model_file(path)
    for score in recipe.frames:
        if isinstance(score.frames, BagSource):
            check_bag(score.frames)
        elif not score.frames.image_files():
            raise DataError(f"frames {score.name}: expected frames in {score.frames.folder}, there are none")
