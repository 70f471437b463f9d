"""Perceive every frame of a bag, without ROS: `replay_bag IN -o OUT`.

The replay uses the perceiver and the messages of the node, so a bag shows the results of the vehicle. Results are
written on the node's topics with the stamps of their frames. No frame is dropped for lack of time, so the same bag and
model give the same bytes every time. `replay_pipeline.py` reads and perceives frames ahead of the thread that writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ros_kd_perception.bags.reader import BagError, BagReader, BagWriter, rosbags_message_types
from ros_kd_perception.drawing.overlay_video import OverlayVideo
from ros_kd_perception.drawing.video import VideoError
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import free_space_parameters_of
from ros_kd_perception.ground_positions.locator import GroundLocator
from ros_kd_perception.ground_positions.parameters import ground_camera_declarations, ground_parameters_of
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.class_ids import uses_names_in
from ros_kd_perception.messages.result_topics import FRAME_TOPICS, LABEL_TOPICS, NoMessage, PerceivedFrame
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.parameters.camera_names import parse_camera_topics
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.playback_timeline import jump_sentences
from ros_kd_perception.replay_network import (
    add_network_options,
    apply_camera_settings,
    check_network_options,
    frames_per_second,
    open_models,
    try_models,
)
from ros_kd_perception.replay_pipeline import ReplayedFrame, ReplayedInfo, ReplayPipeline
from ros_kd_perception.replay_summary import ReplaySummary
from ros_kd_perception.structures import BadFrame
from ros_kd_perception.system.interruption import one_interrupt
from ros_kd_perception.system.output_paths import check_folder, check_free
from ros_kd_perception.system.shipped_files import AUTO_MODEL
from ros_kd_perception.tracking.parameters import tracking_settings_of
from ros_kd_perception.tracking.tracked_cameras import TrackedCameras

NODE_NAME = "/perception"
EXIT_UNUSABLE, EXIT_INTERRUPTED = 2, 130


class BagReplay:
    """Writes the messages that the node would have published for the frames of a bag, and counts the frames.

    Args:
        perceiver: Runs the model. Its class maps should be made by `builder`.
        builder: Builds the messages.
        writer: Takes the results.
        cameras: Names of the bag's cameras.
        video: Takes the overlays; None for no video.
        finder: Finds the free space; None for no free space.
        tracked: Gives the boxes the ids of their objects; None for no ids.
        locator: Finds where objects stand on the ground; None for no positions.
    """

    def __init__(
        self,
        perceiver: Perceiver,
        builder: MessageBuilder,
        writer: BagWriter,
        cameras: Sequence[str],
        video: OverlayVideo | None = None,
        finder: FreeSpaceFinder | None = None,
        tracked: TrackedCameras | None = None,
        locator: GroundLocator | None = None,
    ) -> None:
        self.summary = ReplaySummary(cameras, perceiver.model.provider.what_runs)
        self._perceiver = perceiver
        self._writer = writer
        self._cameras = cameras
        self._video = video
        self._finder = finder
        self._tracked = tracked
        self._locator = locator
        self._builder = builder
        self._tasks = perceiver.model.contract.tasks
        self._labels_written = False
        self._warned: set[tuple[str, str]] = set()

    def process(self, replayed: ReplayedFrame) -> None:
        """Write the results of one frame with the time of its recording, or count why it has none."""
        self._write_labels_once(replayed.log_time_ns)
        perception, frame = replayed.outcome, replayed.frame
        if isinstance(perception, BadFrame):
            self._drop(replayed.camera, perception.reason, str(perception))
            return
        if isinstance(perception, Exception) or frame is None:
            # Like the node, drop this frame after any error of the network; the next frame may work.
            self._drop(replayed.camera, "failed", f"{type(perception).__name__}: {str(perception)[:200]}")
            return
        if self._tracked is not None:
            perception = self._tracked.track(perception)
        geometry = None if self._locator is None else self._perceiver.geometry_of(frame)
        outputs = PerceivedFrame(perception, self._builder, self._finder, self._locator, geometry)
        self._write_results(replayed.log_time_ns, outputs)
        self.summary.count_perceived(replayed.camera, perception.timing.total_ms)
        if self._video:
            contract = self._perceiver.model.contract
            self._video.add(replayed.log_time_ns, frame, perception, contract, outputs.boundary)

    def calibrate(self, camera: str, camera_info: Any) -> None:
        """Use a CameraInfo. Scans and positions are written from then on; an unusable CameraInfo ends them."""
        uses: list[tuple[str, Callable[[str, Any], None]]] = []
        if self._finder is not None and camera in self._finder.parameters.scans:
            uses.append(("scan", self._finder.calibrate))
        if self._locator is not None and camera in self._locator.parameters:
            uses.append(("positions on the ground", self._locator.calibrate))
        for what, calibrate in uses:
            try:
                calibrate(camera, camera_info)
            except ValueError as error:
                self._warn_once(camera, f"no {what}: {error}")

    def _write_results(self, log_time_ns: int, frame: PerceivedFrame) -> None:
        camera = frame.perception.camera
        for topic in FRAME_TOPICS:
            if topic.task not in self._tasks:
                continue
            try:
                message = topic.build(frame)
            except NoMessage as error:
                self._warn_once(camera, f"no {topic.name}: {error}")
                continue
            name = f"{NODE_NAME}/{camera}/{topic.name}"
            if isinstance(message, np.ndarray):
                self._writer.write_serialized(name, topic.type_name, log_time_ns, message)
            elif message is not None:
                self._writer.write(name, log_time_ns, message)

    def _warn_once(self, camera: str, sentence: str) -> None:
        if (camera, sentence) not in self._warned:
            self._warned.add((camera, sentence))
            tqdm.write(f"{camera}: {sentence}", file=sys.stderr)

    def _drop(self, camera: str, reason: str, sentence: str) -> None:
        if self.summary.count_dropped(camera, reason):
            tqdm.write(f"{camera}: dropped a frame, {reason}: {sentence}", file=sys.stderr)

    def _write_labels_once(self, log_time_ns: int) -> None:
        if self._labels_written:
            return
        self._labels_written = True
        for camera in self._cameras:
            for topic in LABEL_TOPICS:
                if topic.task in self._tasks:
                    message = topic.build(self._builder, self._perceiver.threshold_of(camera))
                    self._writer.write(f"{NODE_NAME}/{camera}/{topic.name}", log_time_ns, message, latched=True)


def replay_bag(options: argparse.Namespace) -> ReplaySummary:
    """Run a replay with the options of `parse_arguments`.

    Raises:
        BagError, CandidateRefused, ModelError, VideoError, ValueError: The text is one sentence. Nothing is written
            then.
    """
    _check_outputs(options)
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
        finder = _free_space_finder(options, list(bag.cameras), perceiver.model)
        locator = _ground_locator(options, list(bag.cameras), perceiver.model)
        tracking = tracking_settings_of(options.params_file, options.node, wanted=options.track)
        tracked = None
        if tracking is not None:
            tracked = TrackedCameras(tracking, list(bag.cameras), perceiver.model.contract.detection_classes)
        writer = stack.enter_context(BagWriter(options.output, overwrite=options.force))
        video = None
        if options.overlay:
            rate = frames_per_second(bag)
            video = stack.enter_context(OverlayVideo(options.overlay, bag.cameras, rate, overwrite=options.force))
        replay = BagReplay(perceiver, builder, writer, list(bag.cameras), video, finder, tracked, locator)
        total = bag.count(bag.cameras.values())
        limit = min(total, options.limit) if options.limit else total
        progress = stack.enter_context(tqdm(total=limit, unit="frame", desc="replay", disable=options.quiet))
        with_camera_infos = finder is not None or locator is not None
        with ReplayPipeline(bag, perceiver, runs, with_camera_infos=with_camera_infos) as results:
            for result in results:
                if isinstance(result, ReplayedInfo):
                    replay.calibrate(result.camera, result.message)
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
        return replay.summary


def _perceiver_of(model: OnnxModel, options: argparse.Namespace, builders: list[MessageBuilder]) -> Perceiver:
    """Return a perceiver whose class maps lie in the memory of messages. Add the builder of the messages."""
    with_names = uses_names_in(options.params_file, options.node)
    builders.append(MessageBuilder(rosbags_message_types(), model.contract, reuse_parts=True, with_names=with_names))
    return Perceiver(model, options.score_threshold, builders[-1].masks.new_class_map)


def _free_space_finder(options: argparse.Namespace, cameras: Sequence[str], model: OnnxModel) -> FreeSpaceFinder | None:
    path = options.params_file
    if path is None:
        return None

    def warn(sentence: str) -> None:
        print(f"replay_bag: {path}: {sentence}", file=sys.stderr)

    also_known = [name for camera in cameras for name in ground_camera_declarations(camera)]
    parameters = free_space_parameters_of(path, cameras, options.node, warn, also_known)
    _check_mountings(path, {camera: scan.pose for camera, scan in parameters.scans.items()})
    return FreeSpaceFinder.if_possible(parameters, model.contract, warn)


def _ground_locator(options: argparse.Namespace, cameras: Sequence[str], model: OnnxModel) -> GroundLocator | None:
    parameters = ground_parameters_of(options.params_file, cameras, options.node)
    _check_mountings(options.params_file, {camera: own.pose for camera, own in parameters.items()})
    return GroundLocator(parameters, model.contract) if parameters else None


def _check_mountings(path: Path, poses: Mapping[str, CameraPose | None]) -> None:
    for camera, pose in poses.items():
        if pose is None:
            raise ValueError(
                f"expected {path} to have the mounting of {camera}, got scan.mounting: tf, which a replay cannot read; "
                f"set scan.mounting: parameters and {camera}.mounting.height_m and so on"
            )


def _check_outputs(options: argparse.Namespace) -> None:
    bag, output = options.bag.resolve(), options.output.resolve()
    if bag == output or bag in output.parents:
        raise ValueError(f"expected an output that differs from the input {options.bag}, got {options.output}")
    check_free(options.output, replace=options.force and options.output.suffix == ".mcap")
    check_folder(options.output.parent if options.output.suffix else options.output)
    if options.overlay:
        check_free(options.overlay, replace=options.force)
    if options.overlay and not options.overlay.resolve().parent.is_dir():
        raise ValueError(f"expected the folder of {options.overlay} to exist, it does not; create it first")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="replay_bag",
        description="Perceive every frame of a bag and write what the perception node would have published.",
    )
    parser.add_argument("bag", type=Path, metavar="IN", help=".mcap or .db3 file, or rosbag2 folder")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="bag to write: a .mcap file, or a folder"
    )
    parser.add_argument(
        "--model",
        default=AUTO_MODEL,
        metavar="ONNX",
        help="student to run; auto (the default): the shipped one that is fastest here",
    )
    parser.add_argument("--overlay", type=Path, metavar="MP4", help="write a video of the frames with their results")
    parser.add_argument("--force", action="store_true", help="replace existing output files")
    parser.add_argument(
        "--track",
        action="store_true",
        help="give boxes the ids of their objects, as the node does with track_objects (--params-file sets that, too)",
    )
    add_network_options(parser, "; also writes free space, scans and positions, and tracks objects")
    options = parser.parse_args(arguments)
    check_network_options(parser, options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a bag. Return 0; 2 with one sentence if an input cannot be used; 130 when interrupted."""
    options = parse_arguments(arguments)
    try:
        with one_interrupt():
            summary = replay_bag(options)
    except KeyboardInterrupt:
        print("replay_bag: interrupted, nothing written", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (BagError, ModelError, VideoError, ValueError, OSError) as error:
        print(f"replay_bag: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    print(summary.table())
    print(f"wrote {options.output}" + (f" and {options.overlay}" if options.overlay else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
