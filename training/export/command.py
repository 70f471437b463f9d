"""`python -m training export CHECKPOINT -o FILE.onnx`: write a checkpoint's student as one file for a vehicle."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ros_kd_perception.model.contract import MAX_DETECTIONS as MOST_DETECTIONS
from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.model.letterbox import letterbox
from ros_kd_perception.sample_drive import SampleDrive
from ros_kd_perception.structures import UInt8Array
from training.arguments import file_to_write, folder_name, number, whole_number
from training.config.network_input import MAX_DETECTIONS
from training.data.image_files import read_image
from training.data.image_listing import list_images
from training.errors import CheckpointError, DataError
from training.export.input_size import add_input_size, choose_input_size, noted_validation
from training.export.settings import ExportSettings
from training.label_sets.of_model import LABEL_SET_KEY

if TYPE_CHECKING:
    from training.checkpoint import CheckpointInfo

# Rendered, because a file must not contain licensed frames. Three kinds, so that they use more parts of the network.
# In clear weather, because sensor noise and rain do not compress, and all frames must fit into 2 MiB.
GOLDEN_VIEWS = ((11, "day", "front", 4.0), (23, "dusk", "left", 9.0), (37, "fog", "right", 2.0))
LARGEST_RENDERED_PX = 1 << 20
PARITY_FRAMES = 16
MAX_METRICS_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("checkpoint", type=Path, help="a .ckpt of python -m training train")
    parser.add_argument("-o", "--output", type=file_to_write, required=True, metavar="FILE.onnx")
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
    parser.add_argument("--metrics", type=Path, help="JSON of python -m training evaluate, copied into the contract")
    parser.add_argument(
        "--frames",
        type=Path,
        metavar="FOLDER",
        help="real frames to check the export on; default: the validation frames of the recipe, if they exist",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export. Return exit status 0, or 2 with one sentence if the input is wrong or parity fails."""
    CheckpointError.check_file(arguments.checkpoint)
    metrics = read_metrics(arguments.metrics) if arguments.metrics else None
    if arguments.frames:
        list_images(arguments.frames)  # refuses a folder without images

    from training.checkpoint import load_student
    from training.export.export import export_student

    student, info = load_student(arguments.checkpoint, arguments.weights)
    try:
        height, width = choose_input_size(info, arguments.height, arguments.width)
        settings = ExportSettings(
            info.classes,
            name=arguments.name,
            version=arguments.version,
            height=height,
            width=width,
            max_detections=arguments.max_detections,
            score_threshold=arguments.score_threshold,
            provenance=provenance(info),
            metrics=info.metrics if metrics is None else metrics,
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
    validation = noted_validation(info)
    if validation and (height, width) != (validation.input_height, validation.input_width):
        print("the figures of the checkpoint are those of the recipe's validation size, not of this input size")
    print(f"{arguments.output}, for an input of {width}x{height}: {arguments.output.stat().st_size / 1e6:.1f} MB")
    return 0


def provenance(info: CheckpointInfo) -> dict[str, Any]:
    """Return the origin of the weights, as it is written into the contract."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        LABEL_SET_KEY: info.classes.name,
        "recipe_sha256": info.recipe_sha256,
        "data_sha256": info.data_sha256,
        "teachers": info.taught_by or "none",
        "git_commit": info.git_commit,
        "created": now.isoformat(timespec="seconds"),
    }


def read_metrics(path: Path) -> dict[str, Any]:
    """Read the figures of an evaluation.

    Raises:
        DataError: The file is not a JSON object, or it is too large for the metadata of a model.
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
    return metrics


def validation_images(info: CheckpointInfo) -> Path | None:
    """Return the folder of segmentation validation frames of the checkpoint's recipe, if it is on this machine."""
    validation = noted_validation(info)
    source = validation.segmentation if validation else None
    folder = source.folder / "images" if source else None
    return folder if folder and folder.is_dir() else None


def read_network_inputs(folder: Path, height: int, width: int) -> list[UInt8Array]:
    """Return up to PARITY_FRAMES letterboxed frames, spread evenly over a folder of JPEG and PNG files.

    Raises:
        DataError: There is no image, or one cannot be read.
    """
    paths = list_images(folder)
    chosen = np.unique(np.linspace(0, len(paths) - 1, PARITY_FRAMES).round().astype(int))
    return [_letterboxed(read_image(paths[index]), height, width) for index in chosen]


def render_network_inputs(height: int, width: int) -> list[UInt8Array]:
    """Return rendered frames, letterboxed; the same ones on every call.

    Frames of a large input are rendered at a half, a quarter ... of its size, and their pixels repeated: that takes few
    bytes as PNG.
    """
    repeat = 1
    while height * width > LARGEST_RENDERED_PX * repeat**2:
        repeat *= 2
    rendered = [
        _letterboxed(SampleDrive(seed, weather).render(camera, time_s).image_bgr, height // repeat, width // repeat)
        for seed, weather, camera, time_s in GOLDEN_VIEWS
    ]
    return [np.ascontiguousarray(image.repeat(repeat, axis=0).repeat(repeat, axis=1)) for image in rendered]


def _letterboxed(image_bgr: UInt8Array, height: int, width: int) -> UInt8Array:
    placed = np.empty((height, width, 3), np.uint8)
    letterbox(image_bgr, placed, InputSpec.pad_value)
    return placed
