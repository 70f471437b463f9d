"""`python -m training keep-weights CHECKPOINT... -o FILE.safetensors`: keep weights alone, or their mean."""

from __future__ import annotations

import argparse
from pathlib import Path

from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import file_to_write
from training.errors import CheckpointError
from training.weights_file import SUFFIX


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "checkpoints", type=path_argument, nargs="+", metavar="CHECKPOINT",
        help="a .ckpt of train; of several that came from one start, the mean of their weights is kept",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=safetensors_file, required=True, metavar="FILE.safetensors",
        help="for example models/weights/NAME.safetensors",
    )  # fmt: skip
    parser.add_argument(
        "--pretrained-share", type=share, default=0.0, metavar="X",
        help="move the backbone back towards its pretrained weights, 0 (not at all, the default) to 1",
    )  # fmt: skip
    parser.add_argument(
        "--towards", type=path_argument, metavar="CHECKPOINT",
        help="with --pretrained-share: towards the backbone of these weights, for example of a teacher, instead",
    )  # fmt: skip


def share(text: str) -> float:
    """Check a share."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return value


def safetensors_file(text: str) -> Path:
    """Check the path of a file to write; checkpoints are told apart by their suffix."""
    path = file_to_write(text)
    if path.suffix != SUFFIX:
        raise argparse.ArgumentTypeError(f"expected a name that ends with {SUFFIX}, got {path.name}")
    return path


def run(arguments: argparse.Namespace) -> int:
    """Write the file and print what it holds."""
    if arguments.towards and not arguments.pretrained_share:
        raise CheckpointError("expected --pretrained-share together with --towards, got none; say how far to move")
    for checkpoint in [*arguments.checkpoints, *([arguments.towards] if arguments.towards else [])]:
        CheckpointError.check_beginning(checkpoint)

    from training.keep_weights.keep import keep_weights

    info = keep_weights(arguments.checkpoints, arguments.output, arguments.pretrained_share, arguments.towards)
    origin = f"the mean of {len(info.mean_of)} checkpoints" if info.mean_of else f"after {info.epoch} epochs"
    print(
        f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB, a student of size {info.size} for "
        f"{info.classes.name}, {origin}"
    )
    return 0
