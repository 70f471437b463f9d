"""`python -m training evaluate MODEL [MODEL ...] DATA`: score models on labelled frames, side by side."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ros_kd_perception.model.devices import DEVICES
from ros_kd_perception.model.onnx_file import ModelFileError, read_model_file
from training.arguments import MAX_THREADS, file_to_write, folder_to_write, whole_number
from training.config.loading import load_settings
from training.data.readers.registry import LABELED_KINDS, open_source
from training.data.readers.source import Source
from training.errors import CheckpointError, RecipeError
from training.evaluation.limits import broken_limits, limit, unknown_limits, worse_than_first
from training.evaluation.source_arguments import add_source_arguments, chosen_source
from training.export.input_size import add_input_size
from training.teachers.teachers_file import TeachersFile
from training.whole_files import write_text

if TYPE_CHECKING:
    from training.evaluation.report import Conditions, Scored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="model",
        help="a .ckpt of train, kept weights, an exported, adopted or quantised .onnx, or a .yaml that names teachers; "
        "the others are compared with the first",
    )
    add_source_arguments(parser, LABELED_KINDS)
    parser.add_argument("--weights", choices=("ema", "trained"), default="ema", help="which weights of a checkpoint")
    add_input_size(parser)
    parser.add_argument("--threads", type=whole_number(1, MAX_THREADS), default=2, help="threads of inference on a CPU")
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu", help="where the models run; tensorrt: exported files alone"
    )
    parser.add_argument(
        "--drawn",
        choices=("frames", "drives"),
        default="frames",
        help="what is drawn again for intervals; drives: frames whose names are alike up to the first _ or -",
    )
    parser.add_argument(
        "--at-least",
        action="append",
        default=[],
        type=limit,
        metavar="NAME=SHARE",
        help="end with status 1 if a figure of a model is less, for example miou=0.65 or ap50.car=0.6",
    )
    parser.add_argument(
        "--not-worse-than",
        type=Path,
        metavar="MODEL",
        help="end with status 1 if a model is worse than this one in mIoU or AP50, beyond the noise",
    )
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="write all figures")
    parser.add_argument(
        "--pictures",
        type=folder_to_write,
        metavar="FOLDER",
        help="write pictures of outputs, those of the last model, beside labels",
    )
    parser.add_argument("--picture-count", type=whole_number(1), default=12)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate. Return exit status 0, 1 if a limit is broken, or 2 with one sentence if the input is wrong."""
    paths = [*([arguments.not_worse_than] if arguments.not_worse_than else []), *arguments.models]
    for path in paths:
        check_model_file(path)
    settings = chosen_source(arguments)
    settings.image_files()  # a wrong folder is told before anything slow is loaded

    from ros_kd_perception.model.onnx_model import ModelError

    try:
        scored, conditions = _score(arguments, paths, settings)
    except (ModelError, ModelFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    from training.evaluation.report import table, to_json

    if sentence := unknown_limits(arguments.at_least, scored):
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    print(table(scored, conditions))
    if arguments.json:
        write_text(arguments.json, json.dumps(to_json(scored, conditions), indent=1, allow_nan=False) + "\n")
    tried = scored[1:] if arguments.not_worse_than else scored
    broken = [*broken_limits(arguments.at_least, tried)]
    broken += worse_than_first(scored) if arguments.not_worse_than else []
    for sentence in broken:
        print(f"LIMIT BROKEN: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def check_model_file(path: Path) -> None:
    """Refuse what is no model before anything slow is loaded."""
    if path.suffix == ".onnx":
        read_model_file(path)
    elif path.suffix in (".yaml", ".yml"):
        load_settings(path, TeachersFile)
    else:
        CheckpointError.check_file(path)


def _score(arguments: argparse.Namespace, paths: Sequence[Path], settings: Source) -> tuple[list[Scored], Conditions]:
    from training.evaluation.evaluate import PictureWriter, evaluate_side_by_side
    from training.evaluation.models import open_model
    from training.evaluation.report import Conditions, Scored
    from training.evaluation.score_figures import score_figures

    size = arguments.height, arguments.width
    models = {
        name: open_model(path, arguments.weights, *size, arguments.threads, arguments.device)
        for name, path in names_of_files(paths).items()
    }
    source = open_source(settings, next(iter(models.values())).label_set)
    pictures = PictureWriter(arguments.pictures, len(source), arguments.picture_count) if arguments.pictures else None
    evaluations = evaluate_side_by_side(models, source, pictures)
    drives = [drive_of(name) for name in source.names]
    figures = score_figures(
        {name: each.recorder.records() for name, each in evaluations.items()},
        drives if arguments.drawn == "drives" else None,
    )
    exact = "exact" if settings.exact_boxes else "approximate: connected regions of the masks"
    conditions = Conditions(source.folder.name, source.mapping.source.name, exact, arguments.drawn, len({*drives}))
    named = names_of_files(paths)
    return [Scored(name, named[name], each, figures[name]) for name, each in evaluations.items()], conditions


def drive_of(name: str) -> str:
    """Return the drive of a frame: its name up to the first `_` or `-`; a name without them is a drive of its own."""
    return re.split("[_-]", name, maxsplit=1)[0]


def names_of_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the files by short names: that of the file, with folders before it where several are called alike."""
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len({*names}) == len(names):
            return dict(zip(names, paths, strict=True))
    raise RecipeError(f"expected different models, got {', '.join(map(str, paths))}; name each once")
