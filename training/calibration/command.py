"""`python -m training calibrate RECIPE`: make the scores of a student mean what they say, with proof."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.output_paths import check_writable
from training.arguments import file_of_kind
from training.calibration.recipe import CalibrationRecipe
from training.compare.recipe import ScoreRecipe
from training.config.loading import load_settings
from training.errors import CheckpointError, DataError, RecipeError
from training.evaluation.command import check_model_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", type=path_argument, help="a file of training/calibrations/")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change one of its keys")
    parser.add_argument(
        "--check",
        type=path_argument,
        metavar="FILE.onnx",
        help="fit nothing: see whether the thresholds in this file hold on the frames of check",
    )
    parser.add_argument(
        "--json", type=file_of_kind(".json"), metavar="FILE", help="with --check: write the shares that were found"
    )


def run(arguments: argparse.Namespace) -> int:
    """Calibrate or check. Return exit status 0; 1 if a threshold is not proved; 2 if the input is wrong."""
    recipe = load_settings(arguments.recipe, CalibrationRecipe, arguments.override)
    if arguments.json and not arguments.check:
        raise RecipeError("--json belongs to --check; a calibration writes report.json into its folder")
    _check_frames(recipe)
    return _check(recipe, arguments.check, arguments.json) if arguments.check else _calibrate(recipe)


def _check_frames(recipe: CalibrationRecipe) -> None:
    for each in recipe.sets:
        if not each.frames.image_files():
            raise DataError(f"frames {each.name}: expected frames in {each.frames.folder}, there are none")


def _check_proof(recipe: CalibrationRecipe) -> None:
    """Refuse to prove on frames that were fitted on: there, anything holds."""
    for check in recipe.check:
        frames = _files(check)
        for fit in recipe.fit:
            if both := frames & _files(fit):
                raise RecipeError(
                    f"check {check.name}: expected other frames than those of fit, {len(both)} of {len(frames)} are in "
                    f"{fit.name}, too, and would prove nothing; take them out of one (include_drives, exclude_drives)"
                )


def _files(score: ScoreRecipe) -> set[Path]:
    return {path.resolve() for path in score.frames.image_files()}


def _calibrate(recipe: CalibrationRecipe) -> int:
    _check_proof(recipe)
    folder = recipe.folder / recipe.name
    check_writable(folder)
    CheckpointError.check_beginning(recipe.model)

    import torch

    from training.calibration.measure import calibrate
    from training.calibration.write import WEIGHTS, write_calibration
    from training.checkpoint import load_student

    torch.set_num_threads(recipe.threads)
    student, info = load_student(recipe.model)
    if info.quantization_aware is not None:
        raise RecipeError(f"{recipe.model} is trained for 8 bits; calibrate the fp32 weights that it began with")
    if info.confidence:
        raise RecipeError(f"{recipe.model} is calibrated already; name the weights that it was made from")
    found = calibrate(recipe, student, info, folder / "kept")
    print(write_calibration(folder, found, info))
    print(f"{folder / WEIGHTS}: weights to export; to look at: {folder / 'reliability.png'}")
    return 0


def _check(recipe: CalibrationRecipe, path: Path, output: Path | None) -> int:
    check_model_file(path)

    from ros_kd_perception.model.onnx_file import ModelFileError
    from ros_kd_perception.model.onnx_model import ModelError
    from training.calibration.check import check_file

    try:
        found = check_file(recipe, path, recipe.folder / recipe.name / "kept", output)
    except (ModelError, ModelFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(found.text)
    return 0 if found.holds else 1
