"""`python -m training inspect-data RECIPE_OR_FOLDER`: look at frames and labels before a training."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.output_paths import check_writable
from training.arguments import file_of_kind, folder_to_write, some_text, whole_number
from training.config.names import is_folder_name
from training.data.image_listing import IMAGE_SUFFIXES
from training.data.readers.registry import BY_KIND, source_of
from training.data.readers.source import Source
from training.errors import DataError, RecipeError
from training.label_sets.label_set import LabelSet
from training.label_tables.subjects import student_of
from training.recipe import load_recipe
from training.whole_files import write_bytes, write_text

OUT = Path("out/inspect")
PICTURES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("data", type=path_argument, metavar="RECIPE_OR_FOLDER", help="a recipe, or a folder of frames")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change a recipe key")
    parser.add_argument(
        "--kind", choices=("auto", *BY_KIND), default="auto", help="reader of a folder; auto: by the files in it"
    )
    parser.add_argument("--labels", type=some_text, metavar="SET", help="label set of a folder")
    parser.add_argument(
        "--to", type=some_text, metavar="STUDENT", help="label set to show a folder in; default: that of the folder"
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the folder's reader, as in a source of a recipe, for example split=val",
    )
    parser.add_argument("--limit", type=whole_number(0), default=0, help="frames of each source, the first; 0 = all")
    parser.add_argument("--pictures", type=whole_number(0, 200), default=PICTURES, help="frames of each source to draw")
    parser.add_argument(
        "--out", type=folder_to_write, metavar="FOLDER", help="folder of the report; default: out/inspect/NAME"
    )
    parser.add_argument("--json", type=file_of_kind(".json"), metavar="FILE", help="write all figures")


def run(arguments: argparse.Namespace) -> int:
    """Inspect, print the figures and write the report. Return exit status 1 if there are problems, else 0."""
    name, sources, student = _of_folder(arguments) if arguments.data.is_dir() else _of_recipe(arguments)
    folder = arguments.out or OUT / name
    check_writable(folder)

    from training.inspection.inspection import inspect_sources
    from training.inspection.page import page_of
    from training.inspection.sheet import contact_sheet
    from training.inspection.words import summary_of

    inspection = inspect_sources(name, sources, student, arguments.pictures)
    print(summary_of(inspection))
    page, sheet = folder / "report.html", folder / "contact_sheet.png"
    write_text(page, page_of(inspection))
    write_bytes(sheet, contact_sheet(inspection))
    print(f"\nto look at: {page} and {sheet}")
    if arguments.json:
        write_text(arguments.json, json.dumps(inspection.to_json(), indent=1, allow_nan=False) + "\n")
    return 1 if inspection.problems else 0


def _of_recipe(arguments: argparse.Namespace) -> tuple[str, dict[str, Source], LabelSet]:
    """Return name, sources by their keys, and student's label set of a recipe."""
    for option in ("labels", "to", "source"):
        if getattr(arguments, option):
            raise RecipeError(f"--{option} is for a folder; the sources of a recipe name their label sets (labels)")
    if arguments.kind != "auto":
        raise RecipeError("--kind is for a folder; the sources of a recipe name their kinds")
    recipe = load_recipe(arguments.data, arguments.override)
    limit = {"limit": arguments.limit} if arguments.limit else {}
    sources = {}
    for key, source in recipe.sources():
        if key.startswith("data.") or recipe.validation.required or source.folder.exists():
            sources[key] = source.replace(**limit)
        else:
            print(f"{source.folder} is missing: it is left out of the validation")
    return recipe.name, sources, recipe.student_classes()


def _of_folder(arguments: argparse.Namespace) -> tuple[str, dict[str, Source], LabelSet]:
    """Return name and settings of a folder, and the label set to show it in."""
    if arguments.override:
        raise RecipeError("--override changes a recipe; a folder has --kind, --labels, --source and --limit")
    kind = _kind_of(arguments.data) if arguments.kind == "auto" else arguments.kind
    keys = {"folder": arguments.data, "limit": arguments.limit}
    source = source_of(kind, keys | ({"labels": arguments.labels} if arguments.labels else {}), arguments.source)
    name = "_".join(arguments.data.resolve().parts[-2:])
    student = student_of(arguments.to) if arguments.to else source.mapping_to(None).student
    if not arguments.to and student.tasks:  # frames without labels have no classes
        student = _counted_from_zero(student)
    return name if is_folder_name(name) else "folder", {"": source}, student


def _counted_from_zero(label_set: LabelSet) -> LabelSet:
    """Return the same classes with the ids that a student would have, as pictures and counts need them."""
    content = label_set.model_dump() | {"void_ids": ()}
    for task in label_set.by_task:
        ordered = sorted(content[task], key=lambda info: info["id"])
        content[task] = tuple(info | {"id": place} for place, info in enumerate(ordered))
    counted = LabelSet.checked(content)
    counted.check_student()
    return counted


def _kind_of(folder: Path) -> str:
    """Return the kind of a folder by its files: a labelled one if one fits, else images without labels."""
    found = [kind for kind, reader in BY_KIND.items() if reader.recognizes(folder)]
    if not found and not _has_images(folder / "images"):
        kinds = ", ".join(BY_KIND)
        raise DataError(
            f"{folder}: expected frames of a kind that the files tell, found none; name it: --kind, one of "
            f"{kinds}; --source KEY=VALUE says more, such as its split"
        )
    if not found:
        print(f"{folder}: read as images without labels; if it has labels, name their kind with --kind")
    return found[0] if found else "unlabeled"


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
