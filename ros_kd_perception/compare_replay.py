"""Run two models on the frames of a bag and say how their results differ, without ROS.

    compare_replay BAG --model OLD --model NEW -o FOLDER

Each frame is decoded once, and prepared once if both models have the same input. The folder gets figures, a report,
pictures of the worst moments, and a video if one is asked for. The exit status is 0 within the limits, 1 beyond one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice

from tqdm import tqdm

from ros_kd_perception.bags.reader import BagError, BagReader
from ros_kd_perception.differences.classes import ComparedClasses, SideClasses
from ros_kd_perception.differences.comparison import Comparison, Side
from ros_kd_perception.differences.figures import NEW, OLD
from ros_kd_perception.differences.frames import FramePair
from ros_kd_perception.differences.options import (
    add_output_options,
    check_output_options,
    open_video,
    run_comparison,
)
from ros_kd_perception.differences.output import OutputFolder, check_free_folder, write_result
from ros_kd_perception.differences.result import Result
from ros_kd_perception.differences.verdict import Verdict, counted
from ros_kd_perception.parameters.camera_names import parse_camera_topics
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.replay_network import (
    TriedModel,
    add_network_options,
    apply_camera_settings,
    check_network_options,
    frames_per_second,
    open_models,
    try_models,
)
from ros_kd_perception.replay_pipeline import ReplayedFrame, ReplayedInfo, ReplayPipeline
from ros_kd_perception.structures import BadFrame, Perception
from ros_kd_perception.system.command_arguments import path_argument

NAME = "compare_replay"


class OneSideFailed(ValueError):
    """One of the models failed on a frame. The text is one sentence that says what to do."""


def compare_replay(options: argparse.Namespace) -> Verdict:
    """Compare two models with the options of `parse_arguments`.

    Raises:
        BagError, CandidateRefused, ModelError, NothingInCommon, OneSideFailed, OutputPathError, VideoError, ValueError:
            The text is one sentence. Nothing is written then.
    """
    check_free_folder(options.output, replace=options.force)
    with ExitStack() as stack:
        bag = stack.enter_context(BagReader(options.bag, parse_camera_topics(options.camera)))
        bag.check_has_images()
        tried = try_models(options.model, options)
        for note in dict.fromkeys([*bag.notes, *(note for one in tried for note in one.notes)]):
            print(f"{NAME}: {note}", file=sys.stderr)
        perceivers, runs = open_models(tried, options, lambda model: Perceiver(model, options.score_threshold))
        for perceiver in perceivers:
            apply_camera_settings(options, list(bag.cameras), perceiver)
        classes = ComparedClasses.of(*(SideClasses.of(perceiver.model.contract) for perceiver in perceivers))
        folder = stack.enter_context(OutputFolder(options.output, replace=options.force))
        with open_video(options, folder, bag.cameras, lambda: frames_per_second(bag), classes) as video:
            comparison = Comparison(classes, options.worst, video)
            _replay(bag, perceivers, runs, comparison, options)
        sides = _sides(tried, perceivers)
        cut = [f"the video shows the first {options.video_seconds:g} s"] if video is not None and video.is_cut else []
        result = Result.of(comparison, options, sides, cut, _conditions(options, bag, comparison))
        write_result(folder, result)
    return result.verdict


def _replay(
    bag: BagReader, perceivers: Sequence[Perceiver], runs: int, comparison: Comparison, options: argparse.Namespace
) -> None:
    old, new = perceivers
    total = bag.count_frames()
    limit = min(total, options.limit) if options.limit else total
    with (
        tqdm(total=limit, unit="frame", desc="compare", disable=options.quiet) as progress,
        ReplayPipeline(bag, old, runs, also=[new]) as results,
    ):
        frames = (result for result in results if not isinstance(result, ReplayedInfo))
        for result in islice(frames, limit):
            _take(result, comparison, options)
            progress.update()
    figures = comparison.figures
    if not figures.total.frames:
        reasons = ", ".join(f"{reason} {count}" for reason, count in figures.dropped.most_common()) or "none"
        raise BagError(
            f"expected frames in {options.bag} that both models can perceive, got none; frames without results by "
            f"reason: {reasons}"
        )


def _take(result: ReplayedFrame, comparison: Comparison, options: argparse.Namespace) -> None:
    """Compare a frame, or count why it cannot be compared."""
    old, [new], frame = result.outcome, result.others, result.frame
    if isinstance(old, Perception) and isinstance(new, Perception):
        image = None if frame is None else frame.image_bgr
        comparison.add(FramePair(result.camera, old.stamp_ns, result.log_time_ns, old, new, lambda: image))
        return
    if isinstance(old, Exception) and isinstance(new, Exception):
        comparison.figures.dropped[old.reason if isinstance(old, BadFrame) else "failed"] += 1
        return
    failed, model = (old, options.model[0]) if isinstance(old, Exception) else (new, options.model[1])
    seen = new if isinstance(new, Perception) else old
    assert isinstance(seen, Perception)
    if not options.count_failures:
        text = " ".join(str(failed).split())[:300].rstrip(".")
        raise OneSideFailed(
            f"expected both models to perceive each frame, {model} failed on {result.camera} at stamp {seen.stamp_ns} "
            f"ns: {type(failed).__name__}: {text}; correct the model, or count frames like this one with "
            "--count-failures"
        )
    comparison.figures.add_one_sided(NEW if seen is new else OLD, result.camera, seen.stamp_ns)


def _sides(tried: Sequence[TriedModel], perceivers: Sequence[Perceiver]) -> tuple[Side, Side]:
    old, new = (_side(one, perceiver) for one, perceiver in zip(tried, perceivers, strict=True))
    return old, new


def _side(tried: TriedModel, perceiver: Perceiver) -> Side:
    contract = perceiver.model.contract
    facts = {
        "file": str(tried.path),
        "sha256": tried.sha256,
        "model": f"{contract.name} {contract.version}",
        "precision": contract.precision,
        "input": f"{contract.input.width}x{contract.input.height}",
        "score threshold": f"{perceiver.score_threshold:g}",
        "runs on": perceiver.model.provider.what_runs,
    }
    return Side(f"{contract.name} {contract.version} ({tried.path.name})", facts)


def _conditions(options: argparse.Namespace, bag: BagReader, comparison: Comparison) -> dict[str, str]:
    frames = comparison.figures.total.frames
    return {
        "compared": f"{counted(frames, 'frame')} of {options.bag}, each perceived by both models",
        "cameras": ", ".join(f"{camera} ({topic})" for camera, topic in bag.cameras.items()),
        "parameters": "none" if options.params_file is None else str(options.params_file),
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="Run two models on the frames of a bag and say how their results differ. Exit status: 0 within the "
        "limits, 1 beyond one of them, 2 if an input cannot be used.",
    )
    parser.add_argument("bag", type=path_argument, metavar="BAG", help=".mcap or .db3 file, or rosbag2 folder")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        required=True,
        metavar="ONNX",
        help="give it twice: the old model, then the new one; auto: the shipped one that is fastest here",
    )
    parser.add_argument(
        "--count-failures",
        action="store_true",
        help="count a frame on which one model fails as one that only the other side has, instead of stopping",
    )
    add_network_options(parser)
    add_output_options(parser)
    options = parser.parse_args(arguments)
    if len(options.model) != 2:
        parser.error(f"expected --model twice, the old model and the new one, got {len(options.model)} of them")
    check_network_options(parser, options)
    check_output_options(parser, options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two models. Return 0 within the limits, 1 beyond, 2 for a wrong input, 130 if interrupted."""
    options = parse_arguments(arguments)
    return run_comparison(NAME, options.output, lambda: compare_replay(options))


if __name__ == "__main__":
    sys.exit(main())
