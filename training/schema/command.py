"""`python -m training schema`: JSON schemas of recipes for editors, and the reference page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from training.arguments import file_of_kind
from training.calibration.recipe import CalibrationRecipe
from training.compare.recipe import ComparisonRecipe
from training.compression.recipe import CompressionRecipe
from training.config.settings import Settings
from training.recipe import Recipe
from training.report.recipe import ReportRecipe
from training.schema.json_schema import schema_of
from training.schema.reference_page import reference_page
from training.whole_files import write_text


def _json_of(section: type[Settings]) -> str:
    return json.dumps(schema_of(section), indent=1, allow_nan=False) + "\n"


TEXTS: dict[str, Callable[[], str]] = {
    "recipe": lambda: _json_of(Recipe),
    "comparison": lambda: _json_of(ComparisonRecipe),
    "compression": lambda: _json_of(CompressionRecipe),
    "report": lambda: _json_of(ReportRecipe),
    "calibration": lambda: _json_of(CalibrationRecipe),
    "reference": reference_page,
}
# The files of a checkout that hold these texts.
FILES = {
    "recipe": Path("training/recipes/recipe.schema.json"),
    "comparison": Path("training/comparisons/comparison.schema.json"),
    "compression": Path("training/compressions/compression.schema.json"),
    "report": Path("training/reports/report.schema.json"),
    "calibration": Path("training/calibrations/calibration.schema.json"),
    "reference": Path("docs/recipe_reference.md"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=tuple(TEXTS),
        default="recipe",
        help="JSON schema of recipes, comparisons, compressions, reports or calibrations, or their reference page",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "-o", "--output", type=file_of_kind(".json", ".md"), metavar="FILE", help="write there, not to the terminal"
    )
    target.add_argument(
        "--update", action="store_true", help="write all six files of this checkout, after a change of settings"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write or print what was asked for; exit status 0."""
    if arguments.update:
        root = Path(__file__).resolve().parents[2]
        for what, path in FILES.items():
            write_text(root / path, TEXTS[what]())
            print(path)
    elif arguments.output:
        write_text(arguments.output, TEXTS[arguments.what]())
    else:
        print(TEXTS[arguments.what](), end="")
    return 0
