"""FreeSpaceTopics: the free space of every camera: as a boundary in the image, as a scan, as points on the ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecyclePublisher
from sensor_msgs.msg import CameraInfo, Image, LaserScan

from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import (
    FREE_SPACE_PARAMETERS,
    camera_declarations,
    read_free_space_parameters,
)
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.parameters.rules import Declaration
from ros_kd_perception.ros.topics.camera_calibrations import CameraCalibrations
from ros_kd_perception.ros.topics.ground_points import GroundPointTopics
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.structures import Int32Array, Perception
from ros_kd_perception.system.warning_throttle import WarningThrottle


class FreeSpaceTopics(TopicSink):
    """Publishes `~/<camera>/free_space`, and `~/<camera>/scan` and `~/<camera>/ground/...` where they are enabled.

    Cameras with a scan or with points on the ground are calibrated from `<camera>/camera_info` while the node is
    active. A model without segmentation or without the default drivable class has no free space, which is logged.

    Raises:
        ValueError: Free space was asked for and the model has none, or a camera has no mounting.
        ImportError: Mountings come from TF, which is not installed.
    """

    name = "free space"
    parameters = FREE_SPACE_PARAMETERS

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._parameters = read_free_space_parameters(context.values.get, context.cameras)
        self._finder = FreeSpaceFinder.if_possible(self._parameters, context.contract, context.warn)
        self._warn = context.warn
        self._throttle = WarningThrottle(context.warn)
        self._cameras = context.cameras
        mounted = self._parameters.mounted
        self._calibrations = CameraCalibrations(
            context.node,
            {camera: one.frame_id if one.pose is None else None for camera, one in mounted.items()},
            use=self._use,
            forget=self._forget,
            warn=context.warn,
            resolve=self._resolve,
            what={camera: self._parameters.needs_mounting(camera) for camera in mounted},
        )
        self._boundaries: dict[str, LifecyclePublisher[Image]] = {}
        self._make_boundary_topics()
        self._scans = {c: self.publisher(LaserScan, f"~/{c}/scan") for c in self._parameters.scans}
        self._ground = GroundPointTopics(self._parameters.grounds, self.publisher, self._throttle)
        self._misfits = dict.fromkeys(self._scans, "")  # why the newest frame does not fit the calibration
        self._enabled: dict[str, bool] = {c: context.values[f"{c}.enabled"] for c in mounted}

    @classmethod
    def camera_parameters(cls, camera: str) -> Mapping[str, Declaration]:
        """Return the parameters of free space, scan and mounting that may be set for one camera."""
        return camera_declarations(camera)

    @classmethod
    def check_parameters(cls, values: Mapping[str, Any], cameras: Sequence[str]) -> None:
        """Check that every camera whose mounting is needed has one."""
        read_free_space_parameters(values.get, cameras)

    def start(self) -> None:
        """Subscribe to camera_info."""
        self._calibrations.start()

    def stop(self, timeout_s: float) -> None:
        """Unsubscribe from camera_info. The calibrations stay."""
        self._calibrations.stop(timeout_s)

    def destroy(self) -> None:
        """Remove the publishers and the TF listener."""
        super().destroy()
        self._calibrations.close()

    def change(self, values: Mapping[str, Any]) -> None:
        """Note which cameras are disabled: their scans are no error. Their calibrations go on, for when they return."""
        self._enabled = {c: values.get(f"{c}.enabled", enabled) for c, enabled in self._enabled.items()}

    def check_model(self, contract: ModelContract) -> str:
        """Check that a model has the drivable classes, if free space was asked for."""
        ends: list[str] = []
        FreeSpaceFinder.if_possible(self._parameters, contract, ends.append)
        return "" if self._finder is None else "".join(ends)

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Look for the drivable classes under the ids of the new model."""
        super().change_model(contract, builder)
        finder = FreeSpaceFinder.if_possible(self._parameters, contract, self._warn)
        if finder is not None and self._finder is not None:
            self._finder.take_model(contract)  # it has the calibrations
        else:
            self._finder = finder
        self._make_boundary_topics()

    def _make_boundary_topics(self) -> None:
        if self._finder is not None and not self._boundaries:
            self._boundaries = {c: self.publisher(Image, f"~/{c}/free_space") for c in self._cameras}

    def publish(self, result: FrameResult) -> None:
        """Publish scan, boundary and ground of a frame, each only if it has a subscriber."""
        perception, finder = result.perception, self._finder
        if finder is None:
            return

        @cache
        def boundary() -> Int32Array:
            return finder.boundary(perception)

        scan_publisher = self._scans.get(perception.camera)
        if scan_publisher is not None:
            self._publish_scan(finder, scan_publisher, perception)
        boundary_publisher = self._boundaries[perception.camera]
        if boundary_publisher.get_subscription_count():
            boundary_publisher.publish(self.builder.free_space(perception, boundary()))
        self._ground.publish(finder, self.builder, perception, boundary)

    def statuses(self) -> list[Status]:
        """Return a status for each scan and each ground: whether it can be made, and what it sees."""
        grounds = [self._ground_status(camera) for camera in self._parameters.grounds]
        return [*map(self._status, self._scans), *grounds]

    def _publish_scan(
        self, finder: FreeSpaceFinder, publisher: LifecyclePublisher[LaserScan], perception: Perception
    ) -> None:
        camera = perception.camera
        scan = finder.scan(camera)
        if scan is None:
            return
        # Without a subscriber, too: the status shows the newest frame.
        self._misfits[camera] = misfit = scan.misfit(perception.require_class_map())
        if misfit:
            self._throttle.warn(camera, f"no scan of {camera}: {misfit}")
        elif publisher.get_subscription_count() and (ranges := finder.ranges(perception)) is not None:
            frame_id = self._parameters.scans[camera].frame_id
            publisher.publish(self.builder.scan(perception, frame_id, scan, ranges))

    def _use(self, camera: str, message: CameraInfo, pose: CameraPose | None) -> None:
        if self._finder is not None:
            self._finder.calibrate(camera, message, pose)
            if problem := self._finder.ground_problem(camera):
                self._throttle.warn((camera, "ground"), f"no points on the ground of {camera}: {problem}")

    def _forget(self, camera: str) -> None:
        if self._finder is not None:
            self._finder.forget(camera)

    def _ground_status(self, camera: str) -> Status:
        if not self._enabled[camera]:
            return Status(Level.OK, f"{camera} ground points", f"disabled with {camera}")
        problem, is_started = self._calibrations.problems[camera], self._calibrations.is_subscribed
        return self._ground.status(camera, self._finder, problem, is_started=is_started)

    def _status(self, camera: str) -> Status:
        scan = None if self._finder is None else self._finder.scan(camera)
        problem = self._calibrations.problems[camera] or self._misfits[camera]
        name = f"{camera} scan"
        if not self._enabled[camera]:
            return Status(Level.OK, name, f"disabled with {camera}")
        if problem or scan is None:
            level = Level.ERROR if self._calibrations.is_subscribed else Level.OK
            return Status(level, name, problem or "not calibrated yet")
        shown = np.flatnonzero(scan.nearest_m < np.inf)
        if not len(shown):
            return Status(Level.ERROR, name, "no beam falls into the image; check the mounting of the camera")
        angles = np.degrees(scan.beams.angles_rad[shown])
        values = (
            ("beams", str(len(shown))),
            ("first_angle_deg", f"{angles[0]:.1f}"),
            ("last_angle_deg", f"{angles[-1]:.1f}"),
            ("nearest_m", f"{scan.nearest_m.min():.2f}"),
            ("reaching_range_max", str(np.count_nonzero(scan.reaches))),
            ("camera_info_age_s", f"{self._calibrations.age_s(camera):.1f}"),
        )
        if scan.calibration.doubt:
            return Status(Level.WARN, name, scan.calibration.doubt, values=values)
        if 2 * np.count_nonzero(scan.reaches) < len(shown):
            most = f"the image ends before {scan.beams.range_max_m:g} m in most directions"
            text = f"{most}; lower {camera}.scan.range_max_m"
            return Status(Level.WARN, name, text, values=values)
        return Status(Level.OK, name, f"sees from {scan.nearest_m.min():.1f} m on", values=values)
