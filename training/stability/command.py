"""`python -m training stability MODEL ... -o FOLDER`: how much the answers of networks change from frame to frame."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ros_kd_perception.model.devices import DEVICES
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.sample_drive.street.weather import WEATHERS
from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import MAX_THREADS, folder_to_write, number, whole_number
from training.errors import RecipeError
from training.evaluation.command import check_model_file, names_of_files
from training.stability.limits import broken_limits, missing_figure, upper_limit
from training.whole_files import write_bytes, write_text

if TYPE_CHECKING:
    from training.stability.measure import Measured
    from training.stability.real_frames import RealFrames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("models", type=path_argument, nargs="+", metavar="MODEL", help="a model, as evaluate takes it")
    parser.add_argument(
        "-o", "--output", type=folder_to_write, required=True, metavar="FOLDER", help="a new folder, or the same again"
    )
    parser.add_argument(
        "--drives", type=whole_number(0, 1000), default=0, metavar="N", help="render this many drives; 0 renders none"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=9000, help="seed of the first drive; the next has the next"
    )
    parser.add_argument("--weather", choices=WEATHERS, default="day", help="weather of the drives")
    parser.add_argument("--seconds", type=number(0.2, 600), default=6.0, help="length of each drive")
    parser.add_argument(
        "--rate", type=number(0.5, 60), default=10.0, metavar="HZ", help="frames per second of the drives"
    )
    parser.add_argument(
        "--object-height",
        type=number(6, 360),
        default=24.0,
        metavar="PX",
        help="objects of drives count from this height on, of 360 px",
    )
    parser.add_argument(
        "--frames",
        type=path_argument,
        nargs="+",
        default=[],
        metavar="PATH",
        help="folders of images in the order of their names, or bags: real frames that follow each other",
    )
    parser.add_argument("--topic", default="", help="image topic of bags that have several")
    parser.add_argument("--limit", type=whole_number(0), default=0, help="real frames of each folder or bag; 0 = all")
    parser.add_argument(
        "--at-most",
        action="append",
        default=[],
        type=upper_limit,
        metavar="NAME=VALUE",
        help="end with status 1 if a figure of a model is greater, for example flicker=0.02",
    )
    parser.add_argument("--threads", type=whole_number(1, MAX_THREADS), default=2, help="threads of inference on a CPU")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the models run, as for evaluate")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write. Return exit status 0, 1 if a limit is broken, or 2 if the input is wrong."""
    if not arguments.drives and not arguments.frames:
        raise RecipeError(
            "expected drives to render (--drives 3) or real frames (--frames FOLDER), got neither; name one of them"
        )
    for path in arguments.models:
        check_model_file(path)
    names = names_of_files(arguments.models)

    from training.stability.real_frames import RealFrames

    real = [RealFrames(path, arguments.topic, arguments.limit) for path in arguments.frames]
    for source in real:
        source.check()

    from ros_kd_perception.model.onnx_model import ModelError

    try:
        return _measure(arguments, names, real)
    except (ModelError, ModelFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(arguments: argparse.Namespace, names: dict[str, Path], real: Sequence[RealFrames]) -> int:
    from training.evaluation.models import open_model
    from training.stability.measure import measure
    from training.stability.rendered_drive import RenderedDrive

    drives = [
        RenderedDrive(arguments.seed + number, arguments.weather, arguments.seconds, arguments.rate)
        for number in range(arguments.drives)
    ]
    models = {
        name: open_model(path, "ema", None, None, arguments.threads, arguments.device) for name, path in names.items()
    }
    measured = measure(models, drives, real, arguments.object_height)
    stability = measured.stability
    if sentence := missing_figure(arguments.at_most, stability):
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    _write(measured, arguments.output)
    broken = list(broken_limits(arguments.at_most, stability))
    for sentence in broken:
        print(f"LIMIT BROKEN: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def _write(measured: Measured, folder: Path) -> None:
    """Write all files, and print the text of them."""
    from training.stability.pictures import course_png, worst_jpeg
    from training.stability.wording import text_of

    stability = measured.stability
    text = text_of(stability)
    write_text(folder / "stability.json", json.dumps(stability.to_json(), indent=1, allow_nan=False) + "\n")
    write_text(folder / "stability.txt", text + "\n")
    write_bytes(folder / "course.png", course_png(stability))
    for source, by_network in measured.worst.items():
        for network, worst in by_network.items():
            picture = worst_jpeg(worst)
            if picture is not None:
                write_bytes(folder / "worst" / f"{_file_name(source)}_{_file_name(network)}.jpg", picture)
    print(text)
    print(f"\nto look at: {folder / 'course.png'} and {folder / 'worst'}")


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_")
