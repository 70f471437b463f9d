"""`python -m training compare FILE`: train several recipes over several seeds and report the differences."""

from __future__ import annotations

import argparse

from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.output_paths import check_writable
from training.compare.recipe import ComparisonRecipe, plan
from training.config.loading import load_settings
from training.run.devices import add_devices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("comparison", type=path_argument, help="a file of training/comparisons/")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change one of its keys")
    add_devices(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train the missing runs, score all, write the report; return exit status 0."""
    comparison = load_settings(arguments.comparison, ComparisonRecipe, arguments.override)
    check_writable(comparison.output / comparison.name)
    runs = plan(comparison)

    from training.compare.compare import compare

    compare(comparison, runs, arguments.accelerator, arguments.devices)
    return 0
