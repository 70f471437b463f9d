"""`python -m training tracking MODEL ...`: how well ids stay with their objects, in rendered drives."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ros_kd_perception.model.devices import DEVICES
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.sample_drive.street.weather import WEATHERS
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.tracking.byte_tracker import TrackingSettings
from training.arguments import MAX_THREADS, number, whole_number
from training.evaluation.command import check_model_file, names_of_files

if TYPE_CHECKING:
    from training.tracking.scores import TrackingScores

_DEFAULTS = TrackingSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("models", type=path_argument, nargs="*", metavar="MODEL", help="a model, as evaluate takes it")
    parser.add_argument("--drives", type=whole_number(1, 1000), default=3, metavar="N", help="render this many drives")
    parser.add_argument(
        "--seed", type=whole_number(0), default=9000, help="seed of the first drive; the next has the next"
    )
    parser.add_argument("--weather", choices=WEATHERS, default="day", help="weather of the drives")
    parser.add_argument("--seconds", type=number(0.2, 600), default=6.0, help="length of each drive")
    parser.add_argument("--rate", type=number(0.5, 60), default=10.0, metavar="HZ", help="frames per second")
    parser.add_argument(
        "--object-height",
        type=number(6, 360),
        default=24.0,
        metavar="PX",
        help="objects count from this height on, of 360 px",
    )
    parser.add_argument(
        "--high-score", type=number(0, 1), default=_DEFAULTS.high_score, help="tracking.high_score of the node"
    )
    parser.add_argument(
        "--iou-min", type=number(0.01, 0.95), default=_DEFAULTS.iou_min, help="tracking.iou_min of the node"
    )
    parser.add_argument(
        "--max-lost-s", type=number(0.05, 30), default=_DEFAULTS.max_lost_s, help="tracking.max_lost_s of the node"
    )
    parser.add_argument("--threads", type=whole_number(1, MAX_THREADS), default=2, help="threads of inference on a CPU")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the models run, as for evaluate")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print. Return exit status 0, or 2 if the input is wrong."""
    for path in arguments.models:
        check_model_file(path)
    names = names_of_files(arguments.models)

    from ros_kd_perception.model.onnx_model import ModelError
    from training.evaluation.models import open_model
    from training.stability.rendered_drive import RenderedDrive
    from training.tracking.measure import measure

    drives = [
        RenderedDrive(arguments.seed + one, arguments.weather, arguments.seconds, arguments.rate, with_flow=False)
        for one in range(arguments.drives)
    ]
    settings = TrackingSettings(arguments.high_score, arguments.iou_min, arguments.max_lost_s)
    try:
        models = {
            name: open_model(path, "ema", None, None, arguments.threads, arguments.device)
            for name, path in names.items()
        }
        scores = measure(models, drives, settings, arguments.object_height)
    except (ModelError, ModelFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text_of(scores))
    return 0


def text_of(scores: dict[str, dict[str, TrackingScores]]) -> str:
    """Return the scores as a table, one line for each model and tracker."""
    width = max(len("model"), *map(len, scores))
    head = f"{'model':{width}}  tracker      HOTA   DetA   AssA   IDF1  switches  objects seen  boxes with ids"
    lines = [head]
    for model, by_tracker in scores.items():
        for tracker, found in by_tracker.items():
            shares = (found.hota, found.detection, found.association_accuracy, found.idf1)
            figures = "  ".join("    -" if share is None else f"{share:5.3f}" for share in shares)
            counts = f"{found.switches:8d}  {found.true_count:12d}  {found.found_count:14d}"
            lines.append(f"{model:{width}}  {tracker:10}  {figures}  {counts}")
    return "\n".join(lines)
