"""`python -m training evaluate MODEL [MODEL ...] DATA`: score models on labelled frames, side by side."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ros_kd_perception.model.devices import DEVICES
from ros_kd_perception.model.onnx_file import ModelFileError, read_model_file
from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import MAX_THREADS, file_of_kind, folder_to_write, some_text, whole_number
from training.config.loading import load_settings
from training.data.readers.bag import BagSource
from training.data.readers.registry import KINDS, open_source
from training.data.readers.source import Source
from training.errors import CheckpointError, RecipeError
from training.evaluation.bag_frames import check_bag, frames_of_bag
from training.evaluation.limits import broken_limits, limit, unknown_limits, worse_than_first
from training.evaluation.source_arguments import add_source_arguments, chosen_source
from training.export.input_size import add_input_size
from training.teachers.teachers_file import TeachersFile
from training.whole_files import write_text

if TYPE_CHECKING:
    from ros_kd_perception.structures import UInt8Array
    from training.evaluation.memory import Memory
    from training.evaluation.models import EvaluatedModel
    from training.evaluation.report import Conditions, Scored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "models",
        type=path_argument,
        nargs="+",
        metavar="model",
        help="a .ckpt of train, kept weights, an exported, adopted or quantised .onnx, or a .yaml that names teachers; "
        "the others are compared with the first",
    )
    add_source_arguments(parser, KINDS)
    parser.add_argument(
        "--teachers",
        type=path_argument,
        metavar="FILE.yaml",
        help="of a bag: score on what these teachers say; without them, models are only compared with the first",
    )
    parser.add_argument(
        "--topics", nargs="+", default=[], type=some_text, metavar="TOPIC", help="of a bag: the image topics to take"
    )
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
        type=path_argument,
        metavar="MODEL",
        help="end with status 1 if a model is worse than this one in mIoU or AP50, beyond the noise",
    )
    parser.add_argument(
        "--no-memory",
        action="store_true",
        help="do not measure the memory of the models, which takes a few seconds for each",
    )
    parser.add_argument("--json", type=file_of_kind(".json"), metavar="FILE", help="write all figures")
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
    settings = _checked_source(arguments, len(paths))

    from ros_kd_perception.model.onnx_model import ModelError

    try:
        if not _has_labels(settings):
            return _agree(arguments, paths, settings)
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


def _checked_source(arguments: argparse.Namespace, models: int) -> Source:
    """Return the settings of the frames; what is wrong with them is told before anything slow is loaded."""
    settings = chosen_source(arguments)
    if not isinstance(settings, BagSource):
        if arguments.teachers or arguments.topics:
            raise RecipeError(f"--teachers and --topics are for bags, got {arguments.data}; leave them out")
        settings.image_files()
    else:
        chosen = {"teachers": arguments.teachers, "topics": tuple(arguments.topics)}
        settings = settings.model_copy(update={key: value for key, value in chosen.items() if value})
        check_bag(settings)
    if not _has_labels(settings):
        _check_agreement(arguments, models, isinstance(settings, BagSource))
    return settings


def _has_labels(settings: Source) -> bool:
    return settings.teachers is not None if isinstance(settings, BagSource) else settings.labeled


def _check_agreement(arguments: argparse.Namespace, models: int, is_bag: bool) -> None:
    """Refuse what needs labels, on frames that have none."""
    teachers = " teachers (--teachers FILE.yaml), or" if is_bag else ""
    if models < 2:
        raise RecipeError(
            f"{arguments.data}: these frames have no labels to score a model on; name{teachers} a second model to "
            "compare with the first"
        )
    if arguments.at_least or arguments.not_worse_than or arguments.pictures:
        named = "name teachers (--teachers), or " if is_bag else ""
        raise RecipeError(
            f"{arguments.data}: --at-least, --not-worse-than and --pictures need labels; {named}draw what differs with "
            "compare_replay"
        )


def check_model_file(path: Path) -> None:
    """Refuse what is no model before anything slow is loaded."""
    if path.suffix == ".onnx":
        read_model_file(path)
    elif path.suffix in (".yaml", ".yml"):
        load_settings(path, TeachersFile)
    else:
        CheckpointError.check_beginning(path)


def _score(arguments: argparse.Namespace, paths: Sequence[Path], settings: Source) -> tuple[list[Scored], Conditions]:
    from training.evaluation.evaluate import PictureWriter, evaluate_side_by_side
    from training.evaluation.models import torch_device
    from training.evaluation.report import Conditions, Scored
    from training.evaluation.score_figures import score_figures

    models = _open(arguments, paths)
    exact = "exact" if settings.exact_boxes else "approximate: connected regions of the masks"
    if isinstance(settings, BagSource):
        exact = f"those that {settings.teachers} is sure of"
        settings = frames_of_bag(settings, torch_device(arguments.device).type)
    source = open_source(settings, next(iter(models.values())).label_set)
    pictures = PictureWriter(arguments.pictures, len(source), arguments.picture_count) if arguments.pictures else None
    evaluations = evaluate_side_by_side(models, source, pictures)
    drives = [drive_of(name) for name in source.names]
    figures = score_figures(
        {name: each.recorder.records() for name, each in evaluations.items()},
        drives if arguments.drawn == "drives" else None,
    )
    conditions = Conditions(arguments.data.name, source.mapping.source.name, exact, arguments.drawn, len({*drives}))
    named = names_of_files(paths)
    memory = {} if arguments.no_memory else _memory(arguments, named, source[0].image_bgr)
    return [
        Scored(name, named[name], each, figures[name], memory.get(name)) for name, each in evaluations.items()
    ], conditions


def _open(arguments: argparse.Namespace, paths: Sequence[Path]) -> dict[str, EvaluatedModel]:
    from training.evaluation.models import open_model

    size = arguments.height, arguments.width
    return {
        name: open_model(path, arguments.weights, *size, arguments.threads, arguments.device)
        for name, path in names_of_files(paths).items()
    }


def _agree(arguments: argparse.Namespace, paths: Sequence[Path], settings: Source) -> int:
    """Compare models on frames without labels; print and write what is found."""
    from training.evaluation.agreement import agree_side_by_side
    from training.evaluation.agreement_report import agreement_json, agreement_table
    from training.evaluation.model_facts import ModelFacts

    models, named = _open(arguments, paths), names_of_files(paths)
    settings = frames_of_bag(settings) if isinstance(settings, BagSource) else settings
    frames = settings.open(settings.mapping_to(None))
    drives = [drive_of(name) for name in frames.names] if arguments.drawn == "drives" else None
    seen = agree_side_by_side(models, frames, drives)
    memory = {} if arguments.no_memory else _memory(arguments, named, frames[0].image_bgr)
    facts = [
        ModelFacts(name, named[name], model, seen[name].times_ms, memory.get(name)) for name, model in models.items()
    ]
    print(agreement_table(arguments.data.name, facts, seen))
    if arguments.json:
        found = agreement_json(arguments.data.name, facts, seen)
        write_text(arguments.json, json.dumps(found, indent=1, allow_nan=False) + "\n")
    return 0


def _memory(arguments: argparse.Namespace, paths: Mapping[str, Path], image_bgr: UInt8Array) -> dict[str, Memory]:
    """Return the memory of each model by its name, measured on a picture uint8 (h, w, 3)."""
    from training.evaluation.memory import MemoryRequest, memory_of

    chosen = arguments.weights, arguments.height, arguments.width, arguments.threads, arguments.device
    found = {}
    for name, path in paths.items():
        found[name] = memory_of(MemoryRequest(str(path), *chosen), image_bgr)
        if found[name].problem:
            print(f"{path}: its memory is not known: {found[name].problem}", file=sys.stderr)
    return found


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
