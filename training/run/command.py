"""`python -m training train RECIPE`: train a student by a recipe."""

from __future__ import annotations

import argparse

from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import some_text
from training.errors import writing_to
from training.recipe import load_recipe
from training.run.devices import add_devices, add_nodes
from training.run.present_sources import with_present_sources
from training.run.run_files import folder_of, open_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", type=path_argument, help="a file of training/recipes/")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change a recipe key")
    parser.add_argument("--max-epochs", type=int, help="same as --override epochs=N; the schedule ends there")
    parser.add_argument(
        "--resume",
        type=path_argument,
        metavar="CHECKPOINT",
        help="continue a run from its last.ckpt; more epochs make it longer",
    )
    parser.add_argument(
        "--mlflow",
        type=some_text,
        metavar="URI",
        help="log the run to this MLflow server, too, for example http://localhost:5000; needs the extra [mlflow]",
    )
    parser.add_argument(
        "--mlflow-experiment",
        type=some_text,
        default="ros_kd_perception",
        metavar="NAME",
        help="name of the experiment there (default ros_kd_perception)",
    )
    add_devices(parser)
    add_nodes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train and return exit status 0."""
    overrides = list(arguments.override)
    if arguments.max_epochs is not None:
        overrides.append(f"epochs={arguments.max_epochs}")
    recipe = with_present_sources(load_recipe(arguments.recipe, overrides))
    frames = open_run(recipe, arguments.resume)

    from training.run.mlflow_log import MlflowLog
    from training.run.train import train

    mlflow = MlflowLog(arguments.mlflow, arguments.mlflow_experiment) if arguments.mlflow else None
    devices = arguments.accelerator, arguments.devices, arguments.num_nodes
    with writing_to(folder_of(recipe)):
        train(recipe, arguments.resume, *devices, frames=frames, mlflow=mlflow)
    return 0
