"""`python -m training evaluate MODEL DATA`: score a checkpoint or an exported student on labelled frames."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ros_kd_perception.model.onnx_file import read_model_file
from training.arguments import MAX_THREADS, file_to_write, folder_to_write, some_text, whole_number
from training.config.loading import load_settings
from training.data.readers.registry import (
    LABELED_KINDS,
    OWN_FOLDER_KIND,
    RENDERED_KIND,
    open_source,
    recognize,
    source_of,
)
from training.data.readers.source import Source
from training.errors import CheckpointError
from training.export.input_size import add_input_size
from training.label_sets.label_set import NameTable
from training.whole_files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", type=Path, help="a .ckpt of train, or an exported .onnx")
    parser.add_argument("data", type=Path, help="labelled frames, such as a folder with images/ and masks/")
    parser.add_argument(
        "--kind", choices=("auto", *LABELED_KINDS), default="auto", help="reader; auto: by the files in the folder"
    )
    parser.add_argument(
        "--labels",
        type=some_text,
        metavar="NAME",
        help="label set of the data: its name, or its .yaml; default: that of the reader or of the folder",
    )
    parser.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help="a .yaml with what classes of the data become in the model, by name, like map: in a source of a recipe",
    )
    parser.add_argument(
        "--include-drives",
        nargs="*",
        default=[],
        type=some_text,
        metavar="PREFIX",
        help="only frames of these drives",
    )
    parser.add_argument(
        "--exclude-drives",
        nargs="*",
        default=[],
        type=some_text,
        metavar="PREFIX",
        help="no frames of these drives",
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the folder's reader, as in a source of a recipe, for example split=val",
    )
    parser.add_argument("--limit", type=whole_number(0), default=0, help="number of frames, from the first on; 0 = all")
    parser.add_argument("--weights", choices=("ema", "trained"), default="ema", help="which weights of a checkpoint")
    add_input_size(parser)
    parser.add_argument("--threads", type=whole_number(1, MAX_THREADS), default=2, help="threads of inference on a CPU")
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="write all figures")
    parser.add_argument(
        "--pictures", type=folder_to_write, metavar="FOLDER", help="write pictures of outputs beside labels"
    )
    parser.add_argument("--picture-count", type=whole_number(1), default=12)


def _source_settings(arguments: argparse.Namespace) -> Source:
    """Return the settings of the frames. Keys are left out unless chosen, because not every kind has all of them."""
    kind = arguments.kind
    if kind == "auto":
        kind = recognize(arguments.data, OWN_FOLDER_KIND if arguments.labels else RENDERED_KIND)
    keys = ("limit", "labels", "include_drives", "exclude_drives")
    chosen = {key: value for key in keys if (value := getattr(arguments, key))}
    if arguments.map:
        chosen["map"] = load_settings(arguments.map, NameTable)
    return source_of(kind, {"folder": arguments.data, **chosen}, arguments.source)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate. Return exit status 0, or 2 with one sentence if the input is wrong."""
    if arguments.model.suffix == ".onnx":
        read_model_file(arguments.model)
    else:
        CheckpointError.check_file(arguments.model)
    settings = _source_settings(arguments)
    settings.image_files()  # a wrong folder is told before anything slow is loaded

    from ros_kd_perception.model.onnx_model import ModelError
    from training.evaluation.evaluate import PictureWriter, evaluate, open_model, table

    try:
        model = open_model(arguments.model, arguments.weights, arguments.height, arguments.width, arguments.threads)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    source = open_source(settings, model.label_set)
    pictures = PictureWriter(arguments.pictures, len(source), arguments.picture_count) if arguments.pictures else None
    results = {
        "model": arguments.model.name,
        "runtime": model.runtime,
        "input": [model.contract.input.height, model.contract.input.width],
        "parameters": model.size.parameters,
        "multiply_accumulates": model.size.multiply_accumulates,
        "data": source.folder.name,
        "labels": source.mapping.source.name,
        "boxes": "exact" if settings.exact_boxes else "approximate: connected regions of the masks",
        **evaluate(model, source, pictures),
    }
    print(table(results))
    if arguments.json:
        write_text(arguments.json, json.dumps(results, indent=1, allow_nan=False) + "\n")
    return 0
