"""Perceive every frame of a bag, without ROS: `replay_bag IN -o OUT`.

The replay uses the perceiver and the messages of the node, so a bag shows the results of the vehicle. Results are
written on the node's topics with the stamps of their frames. No frame is dropped for lack of time, so the same bag and
model give the same bytes every time. `replay_pipeline.py` reads and perceives frames ahead of the thread that writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from tqdm import tqdm

from ros_kd_perception.bag_replay import BagReplay
from ros_kd_perception.bags.reader import BagError, BagReader, BagWriter, rosbags_message_types
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.class_ids import uses_names_in
from ros_kd_perception.messages.optional_outputs import optional_outputs_of
from ros_kd_perception.model.contract import DETECTION
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.parameters.camera_names import parse_camera_topics
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.playback_timeline import jump_sentences
from ros_kd_perception.replay_ground import free_space_finder, ground_locator
from ros_kd_perception.replay_network import (
    add_network_options,
    apply_camera_settings,
    check_network_options,
    open_models,
    try_models,
)
from ros_kd_perception.replay_outputs import SourceMessages, add_output_options, check_outputs, open_pictures
from ros_kd_perception.replay_pipeline import ReplayedInfo, ReplayPipeline
from ros_kd_perception.replay_summary import ReplaySummary
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.interruption import one_interrupt
from ros_kd_perception.system.missing_package import MissingPackage
from ros_kd_perception.system.shipped_files import AUTO_MODEL
from ros_kd_perception.system.standard_output import escape_unknown_characters
from ros_kd_perception.tracking.parameters import TRACK_OBJECTS, tracking_settings_of
from ros_kd_perception.tracking.tracked_cameras import TrackedCameras

EXIT_UNUSABLE, EXIT_INTERRUPTED = 2, 130


def replay_bag(options: argparse.Namespace) -> ReplaySummary:
    """Run a replay with the options of `parse_arguments`.

    Raises:
        BagError, CandidateRefused, MissingPackage, ModelError, RerunError, VideoError, ValueError: The text is one
            sentence. Nothing is written then.
    """
    check_outputs(options)
    with ExitStack() as stack:
        bag = stack.enter_context(BagReader(options.bag, parse_camera_topics(options.camera)))
        for note in bag.notes:
            print(f"replay_bag: {note}", file=sys.stderr)
        bag.check_has_images()
        [tried] = try_models([options.model], options)
        for note in tried.notes:
            print(f"replay_bag: {note}", file=sys.stderr)
        builders: list[MessageBuilder] = []
        [perceiver], runs = open_models([tried], options, lambda model: _perceiver_of(model, options, builders))
        builder = builders[-1]  # of the models that were opened, the last one is used
        apply_camera_settings(options, list(bag.cameras), perceiver)
        finder = free_space_finder(options, list(bag.cameras), perceiver.model)
        locator = ground_locator(options, list(bag.cameras), perceiver.model)
        tracking = tracking_settings_of(options.params_file, options.node, wanted=options.track)
        tracked = None
        if options.track and DETECTION not in perceiver.model.contract.tasks:
            raise ValueError(
                f"expected a model that does detection for --track, got {perceiver.model.contract.name}, which does "
                f"{' and '.join(perceiver.model.contract.tasks)}; use another model, or leave out --track"
            )
        if tracking is not None:
            if sentence := perceiver.model.contract.without_effect(TRACK_OBJECTS, DETECTION):
                print(f"replay_bag: {sentence}", file=sys.stderr)
            tracked = TrackedCameras(tracking, list(bag.cameras), perceiver.model.contract.detection_classes)
        optional = optional_outputs_of(options.params_file, options.node)
        for sentence in optional.without_masks(perceiver.model.contract):
            print(f"replay_bag: {sentence}", file=sys.stderr)
        writer = stack.enter_context(BagWriter(options.output, overwrite=options.force))
        video, recording = open_pictures(options, bag, perceiver.model.contract, stack)
        sources = SourceMessages(writer) if options.with_images else None
        replay = BagReplay(
            perceiver, builder, writer, list(bag.cameras), video, recording, sources, finder, tracked, locator, optional
        )
        total = bag.count_frames()
        limit = min(total, options.limit) if options.limit else total
        progress = stack.enter_context(tqdm(total=limit, unit="frame", desc="replay", disable=options.quiet))
        need_infos = finder is not None or locator is not None or optional.camera_info
        pipeline = ReplayPipeline(
            bag,
            perceiver,
            runs,
            with_camera_infos=need_infos or options.with_images,
            keep_messages=options.with_images,
        )
        with pipeline as results:
            for result in results:
                if isinstance(result, ReplayedInfo):
                    replay.take_camera_info(result)
                    continue
                replay.process(result)
                progress.update()
                if options.limit and replay.summary.frames >= options.limit:
                    break
        progress.close()
        for sentence in jump_sentences(video.jumps) if video else ():
            print(f"overlay video: {sentence}", file=sys.stderr)
        if not replay.summary.perceived:
            raise BagError(
                f"expected frames in {options.bag} that can be perceived, got {replay.summary.frames}, all dropped: "
                f"{replay.summary.reasons()}"
            )
        # A disk that is full, or an interrupt, leaves none of the outputs: all are complete before one has its name.
        for output in (writer, video, recording):
            if output is not None:
                output.complete()
        return replay.summary


def _perceiver_of(model: OnnxModel, options: argparse.Namespace, builders: list[MessageBuilder]) -> Perceiver:
    """Return a perceiver whose class maps lie in the memory of messages. Add the builder of the messages."""
    with_names = uses_names_in(options.params_file, options.node)
    builders.append(MessageBuilder(rosbags_message_types(), model.contract, reuse_parts=True, with_names=with_names))
    return Perceiver(model, options.score_threshold, builders[-1].masks.new_class_map)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="replay_bag",
        description="Perceive every frame of a bag and write what the perception node would have published.",
    )
    parser.add_argument("bag", type=path_argument, metavar="IN", help=".mcap or .db3 file, or rosbag2 folder")
    parser.add_argument(
        "--model",
        default=AUTO_MODEL,
        metavar="ONNX",
        help="student to run; auto (the default): the shipped one that is fastest here",
    )
    add_output_options(parser)
    parser.add_argument(
        "--track",
        action="store_true",
        help="give boxes the ids of their objects, as the node does with track_objects (--params-file sets that, too)",
    )
    add_network_options(
        parser, "; also writes free space, scans and the other outputs that it enables, and tracks objects"
    )
    options = parser.parse_args(arguments)
    check_network_options(parser, options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a bag. Return 0; 2 with one sentence if an input cannot be used; 130 when interrupted."""
    options = parse_arguments(arguments)
    escape_unknown_characters()
    try:
        with one_interrupt():
            summary = replay_bag(options)
    except KeyboardInterrupt:
        print("replay_bag: interrupted, nothing written", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (MissingPackage, ValueError, OSError) as error:  # those of bags, videos and Rerun, too
        print(f"replay_bag: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    print(summary.table())
    print("wrote " + " and ".join(str(path) for path in (options.output, options.overlay, options.rerun) if path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
