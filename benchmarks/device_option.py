"""The option `--device` of the benchmarks beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, whatever is installed


def add_device_option(parser: argparse.ArgumentParser, default: str, published: str = "cpu") -> None:
    """Let the user choose where the network runs.

    Args:
        parser: gets the option.
        default: the device without the option.
        published: the device that the figures of the docs were made with.
    """
    from ros_kd_perception.model.onnx_model import DEVICES

    parser.add_argument(
        "--device",
        choices=DEVICES,
        default=default,
        help=f"where the network runs ({default}; the figures of the docs are those of {published})",
    )
