"""Perceive every frame of a bag, without ROS: `replay_bag IN -o OUT`.

The replay uses the perceiver and the messages of the node, so a bag shows the results of the vehicle. Results are
written on the node's topics with the stamps of their frames. No frame is dropped for lack of time, so the same bag and
model give the same bytes every time. `replay_pipeline.py` reads and perceives frames ahead of the thread that writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ros_kd_perception.bags.reader import BagError, BagReader, BagWriter, rosbags_message_types
from ros_kd_perception.drawing.overlay_video import OverlayVideo
from ros_kd_perception.drawing.rerun_file import RerunFile
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.ground_positions.locator import GroundLocator
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.class_ids import uses_names_in
from ros_kd_perception.messages.optional_outputs import NO_OPTIONAL_OUTPUTS, OptionalOutputs, optional_outputs_of
from ros_kd_perception.messages.result_topics import FRAME_TOPICS, LABEL_TOPICS, NoMessage, PerceivedFrame
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
from ros_kd_perception.replay_pipeline import ReplayedFrame, ReplayedInfo, ReplayPipeline
from ros_kd_perception.replay_summary import ReplaySummary
from ros_kd_perception.structures import BadFrame
from ros_kd_perception.system.interruption import one_interrupt
from ros_kd_perception.system.missing_package import MissingPackage
from ros_kd_perception.system.shipped_files import AUTO_MODEL
from ros_kd_perception.system.standard_output import escape_unknown_characters
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
        recording: Takes images, masks and boxes for the Rerun viewer; None for none.
        sources: Takes the messages of the bag that belong to the results; None to leave them out.
        finder: Finds the free space; None for no free space.
        tracked: Gives the boxes the ids of their objects; None for no ids.
        locator: Finds where objects stand on the ground; None for no positions.
        optional: Which of the optional outputs to write.
    """

    def __init__(
        self,
        perceiver: Perceiver,
        builder: MessageBuilder,
        writer: BagWriter,
        cameras: Sequence[str],
        video: OverlayVideo | None = None,
        recording: RerunFile | None = None,
        sources: SourceMessages | None = None,
        finder: FreeSpaceFinder | None = None,
        tracked: TrackedCameras | None = None,
        locator: GroundLocator | None = None,
        optional: OptionalOutputs = NO_OPTIONAL_OUTPUTS,
    ) -> None:
        self.summary = ReplaySummary(cameras, perceiver.model.provider.what_runs)
        self._perceiver = perceiver
        self._writer = writer
        self._cameras = cameras
        self._video = video
        self._recording = recording
        self._sources = sources
        self._finder = finder
        self._tracked = tracked
        self._locator = locator
        self._optional = optional
        self._camera_infos: dict[str, CameraInfoFields] = {}
        self._infos_known: set[str] = set()
        self._builder = builder
        self._tasks = perceiver.model.contract.tasks
        self._labels_written = False
        self._warned: set[tuple[str, str]] = set()

    def process(self, replayed: ReplayedFrame) -> None:
        """Write the results of one frame with the time of its recording, or count why it has none."""
        self._write_labels_once(replayed.log_time_ns)
        self._tell_of_missing_info(replayed.camera)
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
        if self._sources is not None and replayed.source is not None:
            self._sources.write_image(replayed.source)
        geometry = None if self._locator is None else self._perceiver.geometry_of(frame)
        info = self._camera_infos.get(replayed.camera)
        outputs = PerceivedFrame(perception, self._builder, self._finder, self._locator, geometry, self._optional, info)
        self._write_results(replayed.log_time_ns, outputs)
        self.summary.count_perceived(replayed.camera, perception.timing.total_ms)
        if self._video:
            contract = self._perceiver.model.contract
            self._video.add(replayed.log_time_ns, frame, perception, contract, outputs.boundary)
        if self._recording:
            self._recording.add(frame, perception)

    def take_camera_info(self, info: ReplayedInfo) -> None:
        """Use a CameraInfo. What needs it is written from then on; an unusable CameraInfo ends that."""
        if self._sources is not None:
            self._sources.write_camera_info(info.camera, info.source)
        camera = info.camera
        self._infos_known.add(camera)
        for what, use in self._uses_of_info(camera):
            try:
                use(camera, info.message)
            except ValueError as error:
                self._warn_once(camera, f"no {what}: {error}")

    def _uses_of_info(self, camera: str) -> list[tuple[str, Callable[[str, Any], None]]]:
        """Return which outputs need the CameraInfo of a camera, in words, and what takes it."""
        uses: list[tuple[str, Callable[[str, Any], None]]] = []
        if self._finder is not None and camera in self._finder.parameters.mounted:
            uses.append((self._finder.parameters.needs_mounting(camera), self._finder.calibrate))
        if self._locator is not None and camera in self._locator.parameters:
            uses.append(("positions on the ground", self._locator.calibrate))
        if self._optional.camera_info:
            uses.append(("camera_info", self._keep_camera_info))
        return uses

    def _tell_of_missing_info(self, camera: str) -> None:
        """Say once what a camera lacks without a CameraInfo. The reader gives the first one before all frames."""
        if camera not in self._infos_known:
            self._infos_known.add(camera)
            for what, _ in self._uses_of_info(camera):
                self._warn_once(
                    camera,
                    f"no {what}: expected a CameraInfo that can be read on the topic camera_info beside the images, "
                    "the bag has none; record it, too",
                )

    def _keep_camera_info(self, camera: str, camera_info: Any) -> None:
        self._camera_infos.pop(camera, None)
        self._camera_infos[camera] = CameraInfoFields.from_message(camera_info)

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
            tracked = TrackedCameras(tracking, list(bag.cameras), perceiver.model.contract.detection_classes)
        optional = optional_outputs_of(options.params_file, options.node)
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
    parser.add_argument("bag", type=Path, metavar="IN", help=".mcap or .db3 file, or rosbag2 folder")
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
