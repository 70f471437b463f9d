"""`python -m training labels [SOURCE] [--to STUDENT]`: show label sets, and what maps to what between them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import file_of_kind, some_text
from training.config.loading import load_settings
from training.errors import RecipeError
from training.label_sets.label_set import LabelSet, NameTable
from training.label_sets.loading import load_label_set, shipped_names
from training.label_tables.report import MappingReport, set_to_json
from training.label_tables.subjects import Subject, is_recipe, label_set_named, student_of, subject_of, subjects_of
from training.label_tables.text import catalogue, mapping_table, one_set
from training.whole_files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "source",
        nargs="?",
        type=some_text,
        metavar="SOURCE",
        help="name or .yaml of a label set, a folder with labels, or a recipe, whose sources are all shown; without "
        "it, the label sets of the package are listed",
    )
    parser.add_argument(
        "--to",
        type=some_text,
        metavar="STUDENT",
        help="show what the classes become in this label set: its name or .yaml, or a recipe with this student; a "
        "recipe as SOURCE has a student of its own",
    )
    parser.add_argument(
        "--map",
        type=path_argument,
        metavar="FILE",
        help="with --to: a .yaml with what stands under map: in a source, to try it before it is in a recipe",
    )
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe SOURCE"
    )
    parser.add_argument("--json", type=file_of_kind(".json"), metavar="FILE", help="write the same as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables. Return exit status 1 if a class maps to nothing, else 0."""
    _check(arguments)
    colored = sys.stdout.isatty() and "NO_COLOR" not in os.environ  # no-color.org
    if arguments.source is None:
        sets = [load_label_set(name) for name in shipped_names()]
        return _show(arguments, [catalogue(sets)], {one.name: set_to_json(one) for one in sets})
    if not arguments.to and not is_recipe(arguments.source):
        label_set = label_set_named(arguments.source)
        return _show(arguments, [one_set(label_set, colored)], set_to_json(label_set))
    subjects, student = _subjects(arguments)
    reports = [MappingReport.of(one.title, one.label_set, student, one.table) for one in subjects]
    texts = [mapping_table(report, colored) for report in reports]
    _show(arguments, texts, {"student": student.name, "mappings": [report.to_json() for report in reports]})
    return 1 if any(report.lost for report in reports) else 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    recipe = arguments.source is not None and is_recipe(arguments.source)
    if arguments.source is None and (arguments.to or arguments.map):
        raise RecipeError("--to and --map need a SOURCE, whose classes are mapped; name a label set")
    if arguments.map and (recipe or not arguments.to):
        raise RecipeError(
            "--map needs a label set as SOURCE and --to STUDENT; a recipe has a map in each of its sources"
        )
    if arguments.override and not recipe:
        raise RecipeError("--override changes a recipe; name one as SOURCE, or leave the option out")


def _subjects(arguments: argparse.Namespace) -> tuple[list[Subject], LabelSet]:
    """Return what is mapped, and the student's set: that of the recipe, unless `--to` names another."""
    student = student_of(arguments.to) if arguments.to else None
    if is_recipe(arguments.source):
        subjects, own = subjects_of(Path(arguments.source), arguments.override)
        return subjects, student or own
    assert student is not None  # otherwise the set itself is shown
    table = load_settings(arguments.map, NameTable) if arguments.map else NameTable()
    return [subject_of(arguments.source, table)], student


def _show(arguments: argparse.Namespace, texts: list[str], content: dict[str, Any]) -> int:
    print("\n\n\n".join(texts))
    if arguments.json:
        write_text(arguments.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return 0
