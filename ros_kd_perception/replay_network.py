"""The models of a replay: their options, and how they are opened for several frames at the same time."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_kd_perception.bags.reader import BagReader
from ros_kd_perception.candidates.trial import try_model
from ros_kd_perception.model.model_choice import choose_model
from ros_kd_perception.model.onnx_model import DEVICES, PRECISIONS, OnnxModel
from ros_kd_perception.parameters.camera_settings import camera_settings_of, score_thresholds_of
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.playback_timeline import images_per_second
from ros_kd_perception.replay_pipeline import MAX_RUNS, available_cores, warm_up_together
from ros_kd_perception.system.command_arguments import MAX_THREADS, path_argument, whole_number


@dataclass(frozen=True)
class TriedModel:
    """A model file that passed its trial.

    Attributes:
        path: The file.
        sha256: Its hash.
        notes: Sentences for the user.
    """

    path: Path
    sha256: str
    notes: tuple[str, ...]


def try_models(models: Sequence[str], options: argparse.Namespace) -> list[TriedModel]:
    """Choose the file of each model, and try it in a child process.

    Args:
        models: Path of a file each, or `auto`.
        options: Those of `add_network_options`.

    Raises:
        CandidateRefused: A model did not pass; one sentence.
    """
    tried = []
    for model in models:
        choice = choose_model(model, options.device, options.precision)
        passed = try_model(choice.path, _wanted(options))
        notes = tuple(filter(None, (choice.reason, passed.speed)))
        tried.append(TriedModel(Path(choice.path), passed.sha256, notes))
    return tried


def open_models(
    tried: Sequence[TriedModel], options: argparse.Namespace, perceiver_of: Callable[[OnnxModel], Perceiver]
) -> tuple[list[Perceiver], int]:
    """Open and warm up models. Return how many frames may be in the network at the same time, too.

    Args:
        tried: The files.
        options: Those of `add_network_options`.
        perceiver_of: Makes the perceiver of a model.

    Raises:
        ModelError: A model cannot be run as asked; one sentence.
    """
    threads = options.threads or available_cores()
    for runs in (min(threads, MAX_RUNS), 1):
        models = [
            OnnxModel.open(one.path, **_wanted(options), sha256=one.sha256, intra_op_threads=threads - runs + 1)
            for one in tried
        ]
        runs = 1 if any(model.provider.on_gpu for model in models) else runs
        perceivers = [perceiver_of(model) for model in models]
        try:
            for perceiver in perceivers:
                warm_up_together(perceiver, runs)
        except Exception:
            if runs == 1:
                raise
            continue  # there is too little memory for so many frames, so use all threads for one
        break
    return perceivers, runs


def apply_camera_settings(options: argparse.Namespace, cameras: Sequence[str], perceiver: Perceiver) -> None:
    """Give a perceiver the regions and thresholds of `--params-file`, if there is one.

    Raises:
        ValueError: The file cannot be used; one sentence.
    """
    if options.params_file is None:
        return
    settings = camera_settings_of(options.params_file, cameras, options.node)
    perceiver.score_thresholds = score_thresholds_of(settings)
    perceiver.regions = {camera: own.region_of_interest for camera, own in settings.items()}


def frames_per_second(bag: BagReader) -> float:
    """Return the rate of the bag's fastest camera at its start, while it has images."""
    return max(images_per_second(bag.raw_messages([topic])) for topic in bag.cameras.values())


def add_network_options(parser: argparse.ArgumentParser, params_file_also: str = "") -> None:
    """Add the options that choose cameras and say how models run.

    Args:
        parser: The command's parser.
        params_file_also: What `--params-file` does in addition, for its help.
    """
    parser.add_argument(
        "--camera", action="append", default=[], metavar="NAME=TOPIC", help="perceive only these cameras; repeatable"
    )
    parser.add_argument(
        "--params-file",
        type=path_argument,
        metavar="YAML",
        help=f"the node's, for regions and thresholds of cameras{params_file_also}",
    )
    parser.add_argument(
        "--node",
        metavar="NAME",
        help="node of a --params-file with several nodes whose settings apply, for example /car1/perception",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="execution provider of the network")
    parser.add_argument("--require-gpu", action="store_true", help="refuse to run any part of the network on the CPU")
    parser.add_argument(
        "--require-signature",
        type=path_argument,
        metavar="KEY.pub",
        help="refuse a model that is not signed with this key, as the node does with require_signature",
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: that of the model file")
    parser.add_argument(
        "--score-threshold",
        type=float,
        metavar="S",
        help="drop boxes with a lower score, 0..1; default: the model's",
    )
    parser.add_argument(
        "--threads",
        type=whole_number(0, MAX_THREADS),
        default=0,
        metavar="N",
        help="network threads on a CPU, up to 8 with a frame each; 0: all cores",
    )
    parser.add_argument(
        "--limit", type=whole_number(0), default=0, metavar="N", help="stop after this many frames; 0: all frames"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def check_network_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the command if an option of `add_network_options` is out of range."""
    if options.score_threshold is not None and not 0 <= options.score_threshold <= 1:
        parser.error(f"expected a --score-threshold from 0 to 1, got {options.score_threshold}")
    if options.node is not None and options.params_file is None:
        parser.error("expected a --params-file together with --node; give the file that has the node's settings")


def _wanted(options: argparse.Namespace) -> dict[str, Any]:
    key = options.require_signature
    return {
        "device": options.device,
        "precision": options.precision,
        "require_gpu": options.require_gpu,
        "signature_key": "" if key is None else str(key),
    }
