"""BagReplay: writes what the node would have published for the frames of a bag."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from ros_kd_perception.bags.reader import BagWriter
from ros_kd_perception.drawing.overlay_video import OverlayVideo
from ros_kd_perception.drawing.rerun_file import RerunFile
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.ground_positions.locator import GroundLocator
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.optional_outputs import NO_OPTIONAL_OUTPUTS, OptionalOutputs
from ros_kd_perception.messages.result_topics import FRAME_TOPICS, LABEL_TOPICS, NoMessage, PerceivedFrame
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.replay_outputs import SourceMessages
from ros_kd_perception.replay_pipeline import ReplayedFrame, ReplayedInfo
from ros_kd_perception.replay_summary import ReplaySummary
from ros_kd_perception.structures import BadFrame
from ros_kd_perception.tracking.tracked_cameras import TrackedCameras

NODE_NAME = "/perception"


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
