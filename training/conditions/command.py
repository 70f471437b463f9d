"""`python -m training conditions MODEL ... DATA -o FOLDER`: scores of networks in harder conditions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import MAX_THREADS, folder_to_write, whole_number
from training.conditions.choice import ALL_CONDITIONS, chosen_conditions
from training.conditions.condition import FAMILIES, SEVERITIES, Condition
from training.data.readers.registry import BY_KIND
from training.data.readers.source import Source
from training.errors import RecipeError
from training.evaluation.command import check_model_file
from training.evaluation.source_arguments import add_source_arguments, chosen_source
from training.whole_files import write_bytes, write_text

RENDERED_MAX = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    names = [each.name for each in ALL_CONDITIONS]
    parser.add_argument("models", type=path_argument, nargs="*", metavar="MODEL", help="a model, as evaluate takes it")
    add_source_arguments(parser, tuple(BY_KIND))
    parser.add_argument(
        "-o", "--output", type=folder_to_write, required=True, metavar="FOLDER", help="a new folder, or the same again"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=(*FAMILIES, *names),
        metavar="NAME",
        help=f"only these conditions or families: {', '.join((*FAMILIES, *names))}",
    )
    parser.add_argument(
        "--severities", nargs="+", type=whole_number(1, SEVERITIES[-1]), default=list(SEVERITIES), metavar="N"
    )
    parser.add_argument(
        "--rendered",
        type=whole_number(0, RENDERED_MAX),
        default=0,
        metavar="N",
        help="render this many frames for each setting of light, weather and camera; 0 leaves these conditions out",
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, help="seed of the rendered streets")
    parser.add_argument("--threads", type=whole_number(1, MAX_THREADS), default=2, help="threads of inference on a CPU")
    parser.add_argument(
        "--sheet-only", action="store_true", help="draw the contact sheet; needs no MODEL and no labels"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write everything. Return exit status 0, or 2 with one sentence if the input is wrong."""
    conditions = chosen_conditions(arguments.only, arguments.rendered, "--only", "--rendered ")
    _check_models(arguments.models, arguments.sheet_only)
    settings = _source_settings(arguments)
    settings.image_files()  # a wrong folder is told before anything slow is loaded

    from ros_kd_perception.model.onnx_model import ModelError

    try:
        if arguments.sheet_only:
            _write_sheet(arguments, settings, conditions)
        else:
            _measure(arguments, settings, conditions)
    except (ModelError, ModelFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _check_models(models: Sequence[Path], sheet_only: bool) -> None:
    """Refuse models that are missing."""
    if not models and not sheet_only:
        raise RecipeError(
            "expected at least one MODEL before DATA, found none; name one, or draw the sheet (--sheet-only)"
        )
    for path in models:
        check_model_file(path)


def _source_settings(arguments: argparse.Namespace) -> Source:
    """Return the settings of the frames; a contact sheet needs no labels."""
    settings = chosen_source(arguments)
    if not arguments.sheet_only and not settings.labeled:
        raise RecipeError(
            f"{arguments.data}: expected labelled frames, these have no labels (kind {arguments.kind}); name others, "
            "or --sheet-only"
        )
    return settings


def _names(models: Sequence[Path]) -> list[str]:
    """Return a name for each file: its stem, with the folder where stems come twice."""
    stems = [path.stem for path in models]
    return [f"{path.parent.name}/{path.stem}" if stems.count(path.stem) > 1 else path.stem for path in models]


def _measure(arguments: argparse.Namespace, settings: Source, conditions: Sequence[Condition]) -> None:
    from training.conditions.curves import curves_png
    from training.conditions.measure import RenderedFrames, measure, open_frames, open_network
    from training.conditions.pictures import sheet_rows
    from training.conditions.sheet import contact_sheet
    from training.conditions.wording import text_of

    rendered, folder = RenderedFrames(arguments.rendered, arguments.seed), arguments.output
    names = _names(arguments.models)
    networks = [open_network(name, path, arguments.threads) for name, path in zip(names, arguments.models, strict=True)]
    data = open_frames(settings, networks[0].classes)
    severities = sorted(set(arguments.severities))
    robustness = measure(networks, data, conditions, severities, folder, rendered)
    text = text_of(robustness)
    write_text(folder / "conditions.json", json.dumps(robustness.to_json(), indent=1, allow_nan=False) + "\n")
    write_text(folder / "conditions.txt", text + "\n")
    write_bytes(folder / "curves.png", curves_png(robustness))
    write_bytes(folder / "sheet.jpg", contact_sheet(*sheet_rows(data, conditions, severities, folder, rendered)))
    print(text)
    print(f"\nto look at: {folder / 'curves.png'} and {folder / 'sheet.jpg'}")


def _write_sheet(arguments: argparse.Namespace, settings: Source, conditions: Sequence[Condition]) -> None:
    from training.conditions.measure import RenderedFrames
    from training.conditions.pictures import sheet_rows
    from training.conditions.sheet import contact_sheet

    data, severities = settings.open(settings.mapping_to(None)), sorted(set(arguments.severities))
    rendered, folder = RenderedFrames(arguments.rendered, arguments.seed), arguments.output
    write_bytes(folder / "sheet.jpg", contact_sheet(*sheet_rows(data, conditions, severities, folder, rendered)))
    print(f"to look at: {folder / 'sheet.jpg'}")
