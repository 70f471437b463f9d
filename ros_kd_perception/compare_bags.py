"""Compare the results that two bags hold for the same frames, without ROS and without running a network.

    compare_bags A B -o FOLDER

A is the old side, B the new one: what a vehicle recorded with `record_perception`, or what `replay_bag` wrote. Frames
are matched by camera and header stamp. The output and the exit status are those of `compare_replay`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ros_kd_perception.bags.reader import BagReader
from ros_kd_perception.differences.classes import ComparedClasses
from ros_kd_perception.differences.comparison import Comparison, Side
from ros_kd_perception.differences.options import (
    add_output_options,
    check_output_options,
    open_video,
    run_comparison,
)
from ros_kd_perception.differences.output import OutputFolder, check_free_folder, write_result
from ros_kd_perception.differences.recorded_images import RecordedImages, open_images
from ros_kd_perception.differences.recorded_sides import RecordedSide, SharedFrames
from ros_kd_perception.differences.recorded_topics import RecordedTopics, classes_in
from ros_kd_perception.differences.result import Result
from ros_kd_perception.differences.verdict import Verdict, counted
from ros_kd_perception.parameters.camera_names import parse_camera_topics
from ros_kd_perception.system.command_arguments import path_argument

NAME = "compare_bags"


def compare_bags(options: argparse.Namespace) -> Verdict:
    """Compare two bags with the options of `parse_arguments`.

    Raises:
        BagError, NothingInCommon, OutputPathError, VideoError, ValueError: The text is one sentence. Nothing is written
            then.
    """
    check_free_folder(options.output, replace=options.force)
    with ExitStack() as stack:
        old, new = (
            _open_side(stack, path, option, node, options.cameras)
            for path, option, node in (
                (options.old, "--node-a", options.node_a),
                (options.new, "--node-b", options.node_b),
            )
        )
        colors: dict[str, tuple[int, int, int]] = {}
        classes = ComparedClasses.of(*(classes_in(side.bag, side.topics, colors) for side in (old, new)))
        frames = SharedFrames.of(old, new, classes, options.quiet)
        named = [options.images] if options.images else [options.old, options.new]
        topics = parse_camera_topics(options.camera)
        cameras = frames.cameras()
        images = RecordedImages(open_images(stack, named, bool(options.images), topics, cameras), frames.shared)
        folder = stack.enter_context(OutputFolder(options.output, replace=options.force))
        with open_video(options, folder, cameras, lambda: frames.per_second(old), classes) as video:
            comparison = Comparison(classes, options.worst, video)
            frames.compare(old, new, images, comparison, options.quiet)
        notes = _notes(frames, images)
        if video is not None and video.is_cut:
            notes.append(f"the video shows the first {options.video_seconds:g} s")
        result = Result.of(comparison, options, (_side(old), _side(new)), notes, _conditions(options, frames, images))
        write_result(folder, result)
    return result.verdict


def _open_side(stack: ExitStack, path: Path, option: str, node: str | None, cameras: Sequence[str]) -> RecordedSide:
    bag = stack.enter_context(BagReader(path, without_cameras=True))
    for note in bag.notes:
        print(f"{NAME}: {note}", file=sys.stderr)
    return RecordedSide(bag, RecordedTopics.of(bag, option, node, cameras))


def _notes(frames: SharedFrames, images: RecordedImages) -> list[str]:
    notes = []
    if frames.repeated:
        notes.append(f"{counted(frames.repeated, 'message')} of a frame and topic that were there already are left out")
    if images.bag is None:
        notes.append("no bag holds the camera images, so pictures show the results alone; --images BAG names one")
    elif images.known < len(frames.shared):
        notes.append(f"{images.bag.path} holds the images of {images.known} of {len(frames.shared)} frames")
    return notes


def _side(side: RecordedSide) -> Side:
    cameras = ", ".join(f"{camera} ({' and '.join(sorted(tasks))})" for camera, tasks in side.topics.cameras.items())
    facts = {"bag": str(side.bag.path), "node": side.topics.node, "cameras": cameras}
    return Side(side.bag.path.name, facts)


def _conditions(options: argparse.Namespace, frames: SharedFrames, images: RecordedImages) -> dict[str, str]:
    return {
        "compared": f"{counted(len(frames.shared), 'frame')} that {options.old} and {options.new} share",
        "compared tasks": " and ".join(sorted(frames.tasks)),
        "images of": "no bag" if images.bag is None else str(images.bag.path),
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="Compare the results that two bags hold for the same frames. Exit status: 0 within the limits, 1 "
        "beyond one of them, 2 if an input cannot be used.",
    )
    parser.add_argument("old", type=path_argument, metavar="A", help="bag of the old side: a file, or a rosbag2 folder")
    parser.add_argument("new", type=path_argument, metavar="B", help="bag of the new side")
    parser.add_argument("--cameras", nargs="+", default=[], metavar="NAME", help="compare only these cameras")
    parser.add_argument("--node-a", metavar="NODE", help="node whose results in A count, for example /car1/perception")
    parser.add_argument("--node-b", metavar="NODE", help="node whose results in B count")
    parser.add_argument(
        "--images", type=path_argument, metavar="BAG", help="bag with the camera images; default: A or B"
    )
    parser.add_argument(
        "--camera", action="append", default=[], metavar="NAME=TOPIC", help="image topic of a camera; repeatable"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    check_output_options(parser, options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two bags. Return 0 within the limits, 1 beyond, 2 for a wrong input, 130 if interrupted."""
    options = parse_arguments(arguments)
    return run_comparison(NAME, options.output, lambda: compare_bags(options))


if __name__ == "__main__":
    sys.exit(main())
