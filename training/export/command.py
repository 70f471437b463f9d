"""`python -m training export CHECKPOINT -o FILE.onnx`: write a checkpoint's student as one file for a vehicle."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ros_kd_perception.model.contract import MAX_DETECTIONS as MOST_DETECTIONS
from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import file_of_kind, folder_name, number, whole_number
from training.config.network_input import MAX_DETECTIONS
from training.data.image_listing import list_images
from training.errors import CheckpointError, DataError
from training.export.input_size import add_input_size, choose_input_size
from training.export.network_inputs import read_network_inputs, render_network_inputs, validation_images
from training.export.noted_figures import noted_figures, other_figures
from training.export.provenance import provenance
from training.export.settings import ExportSettings

MAX_METRICS_BYTES = 1 << 20
DETAILS = ("figures", "confidence", "confusion")  # of an evaluation; a contract has its summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("checkpoint", type=path_argument, help="a .ckpt of python -m training train")
    parser.add_argument("-o", "--output", type=file_of_kind(".onnx"), required=True, metavar="FILE.onnx")
    parser.add_argument(
        "--weights", choices=("ema", "trained"), default="ema", help="averaged weights, or the last ones"
    )
    parser.add_argument("--name", type=folder_name, default=ExportSettings.name)
    parser.add_argument("--version", type=folder_name, default=ExportSettings.version)
    add_input_size(parser)
    parser.add_argument(
        "--max-detections",
        type=whole_number(1, MOST_DETECTIONS),
        help=f"default: {MAX_DETECTIONS}, or the number of cells of a smaller input",
    )
    parser.add_argument("--score-threshold", type=number(0, 1), default=ExportSettings.score_threshold)
    parser.add_argument(
        "--overlap-max",
        type=number(0, 1),
        metavar="IOU",
        help="of two boxes of one class that overlap by more, the file drops the lower-scored one; default: it drops "
        "none, with --half-view those above 0.6",
    )
    parser.add_argument(
        "--half-view",
        action="store_true",
        help="look for boxes at half the size of the input, too: for an input larger than that of training, in which "
        "near objects are larger than all that taught the student; takes about a quarter more time",
    )
    parser.add_argument(
        "--metrics", type=path_argument, help="JSON of python -m training evaluate, copied into the contract"
    )
    parser.add_argument(
        "--frames",
        type=path_argument,
        metavar="FOLDER",
        help="real frames to check the export on; default: the validation frames of the recipe, if they exist",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export. Return exit status 0, or 2 with one sentence if the input is wrong or parity fails."""
    CheckpointError.check_file(arguments.checkpoint)
    metrics = read_metrics(arguments.metrics) if arguments.metrics else None
    if arguments.frames:
        list_images(arguments.frames)  # refuses a folder without images
    CheckpointError.check_beginning(arguments.checkpoint)

    from training.checkpoint import load_student
    from training.export.export import export_student

    student, info = load_student(arguments.checkpoint, arguments.weights)
    try:
        height, width = choose_input_size(info, arguments.height, arguments.width)
        figures_of = info, arguments.weights, height, width, arguments.max_detections, arguments.half_view
        settings = ExportSettings(
            info.classes,
            name=arguments.name,
            version=arguments.version,
            height=height,
            width=width,
            max_detections=arguments.max_detections,
            score_threshold=arguments.score_threshold,
            provenance=provenance(info),
            metrics=noted_figures(*figures_of) if metrics is None else metrics,
            confidence=info.confidence or {},
            half_view=arguments.half_view,
            overlap_max=arguments.overlap_max,
        )
        settings.contract()
        folder = arguments.frames or validation_images(info)
        real = read_network_inputs(folder, settings.height, settings.width) if folder else []
        golden = render_network_inputs(settings.height, settings.width)
        report = export_student(student, arguments.output, settings, golden, real)
    except ValueError as error:  # from the contract, the frames, parity or the file
        print(f"error: {error}", file=sys.stderr)
        return 2
    where = f"{len(real)} frames of {folder}" if real else "no real frames, for none were given or found"
    print(f"parity with the trained network, on {len(golden)} rendered frames and {where}:\n{report.table()}")
    if info.metrics:
        for sentence in other_figures(*figures_of):
            print(f"{sentence}; the file has none of them" if metrics is None else sentence)
    if info.quantization_aware is not None:
        print(
            "the checkpoint is trained for 8 bits, and so are its figures; this file has its weights in fp32, without "
            "rounding: quantise it with python -m training compress"
        )
    print(f"{arguments.output}, for an input of {width}x{height}: {arguments.output.stat().st_size / 1e6:.1f} MB")
    return 0


def read_metrics(path: Path) -> dict[str, Any]:
    """Read the summary of an evaluation.

    Raises:
        DataError: The file is not a JSON object, holds figures of several models, or is too large for the metadata of
            a model.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_METRICS_BYTES + 1)
    if len(content) > MAX_METRICS_BYTES:
        raise DataError(f"expected figures of at most {MAX_METRICS_BYTES} bytes in {path}; give the JSON of evaluate")
    try:
        metrics = json.loads(content)
        json.dumps(metrics, allow_nan=False)  # Python reads NaN and 1e999, which are not allowed in the contract's JSON
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected {path} to be JSON, got {error}; give the JSON of evaluate") from None
    if not isinstance(metrics, dict):
        raise DataError(f"expected {path} to hold a JSON object, got {type(metrics).__name__}; give evaluate's JSON")
    if "models" in metrics:
        raise DataError(f"expected figures of one model in {path}, got those of several; evaluate this model alone")
    return {key: value for key, value in metrics.items() if key not in DETAILS}
