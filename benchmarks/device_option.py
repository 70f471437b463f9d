"""The option `--device` of the benchmarks in this folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, not an installed package


def add_device_option(parser: argparse.ArgumentParser, default: str, published: str = "cpu") -> None:
    """Add the option that selects the execution provider of the network.

    Args:
        parser: Parser that gets the option.
        default: Device if the option is not given.
        published: Device for which the docs give figures.
    """
    from ros_kd_perception.model.onnx_model import DEVICES

    parser.add_argument(
        "--device",
        choices=DEVICES,
        default=default,
        help=f"execution provider of the network ({default}; the docs have figures of {published})",
    )
