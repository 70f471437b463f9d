"""`python -m training adopt FILE.onnx --describe FILE.yaml -o MODEL.onnx`: run an ONNX file of others on a vehicle."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import file_of_kind, folder_name
from training.foreign.description import load_description

VERSION = "1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "file", type=path_argument, metavar="FILE.onnx", help="a segmentation or detection network of others"
    )
    parser.add_argument("--describe", type=path_argument, metavar="FILE.yaml", help="what its inputs and outputs mean")
    parser.add_argument("-o", "--output", type=file_of_kind(".onnx"), metavar="MODEL.onnx")
    parser.add_argument("--suggest", action="store_true", help="print a draft of the description, and write nothing")
    parser.add_argument(
        "--name", type=folder_name, help="name in the contract; default: that of the description or file"
    )
    parser.add_argument("--version", type=folder_name, default=VERSION, help=f"version in the contract ({VERSION})")


def run(arguments: argparse.Namespace) -> int:
    """Adopt, or suggest a description. Return exit status 0, or 2 with one sentence if something is wrong."""
    if arguments.suggest:
        return _suggest(arguments.file)
    if arguments.describe is None or arguments.output is None:
        print(
            "error: expected --describe FILE.yaml and -o MODEL.onnx; --suggest prints a draft of the description",
            file=sys.stderr,
        )
        return 2
    description = load_description(arguments.describe)

    from training.adoption.adopt import adopt

    name = arguments.name or description.name or _name_of(arguments.file)
    try:
        adopted = adopt(arguments.file, description, arguments.output, name, arguments.version)
    except ValueError as error:  # from the file, the description, the contract or the comparison
        print(f"error: {error}", file=sys.stderr)
        return 2
    contract, agreement = adopted.contract, adopted.agreement
    print(f"agreement with {arguments.file} run by itself, on rendered frames:\n{agreement.table()}")
    if contract.detections is not None and not agreement.boxes:
        print(
            "it found no object on the rendered frames, so its boxes were not compared; look at them on frames of yours"
        )
    size = contract.input
    print(
        f"{arguments.output}: {' and '.join(contract.tasks)}, input {size.width}x{size.height} {size.channels} "
        f"{size.resize}, batch {size.batch}, {contract.precision}, {arguments.output.stat().st_size / 1e6:.1f} MB"
    )
    return 0


def _suggest(path: Path) -> int:
    from training.foreign.foreign_file import ForeignFile
    from training.foreign.suggestion import suggest_description

    print(suggest_description(ForeignFile.read(path)), end="")
    return 0


def _name_of(path: Path) -> str:
    return re.sub(r"[^a-zA-Z0-9_.-]+", "_", path.stem).strip("._-")[:60] or "adopted"
