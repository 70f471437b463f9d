"""`python -m training bill-of-materials`: what a release is made of, as CycloneDX JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.shipped_files import SHIPPED_INT8_STUDENT, SHIPPED_STUDENT
from training.arguments import file_of_kind
from training.errors import DataError
from training.whole_files import write_text

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (ROOT / SHIPPED_STUDENT, ROOT / SHIPPED_INT8_STUDENT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "models",
        type=path_argument,
        nargs="*",
        default=SHIPPED,
        metavar="MODEL.onnx",
        help="models; default: the shipped ones",
    )
    parser.add_argument(
        "-o", "--output", type=file_of_kind(".json"), metavar="FILE", help="write there, not to the terminal"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write or print the bill, after it was checked against the schema; exit status 0."""
    try:
        from training.bill_of_materials.bill import bill_of, validated
    except ModuleNotFoundError as error:
        raise DataError(
            f"expected the Python package {str(error.name).partition('.')[0]} for bills of materials, found none; "
            "install the [release] extra of ros_kd_perception"
        ) from None
    from training.bill_of_materials.packages import installed_packages

    text = validated(bill_of(installed_packages(), arguments.models))
    if arguments.output is None:
        print(text, end="")
        return 0
    write_text(arguments.output, text)
    print(f"wrote {arguments.output}")
    return 0
