"""FreeSpaceTopics: the free space of every camera, in the image and on the ground, for those who subscribe to it."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, LaserScan

from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.ros.topics.tf_mounting import TfMounting
from ros_kd_perception.scheduling.side_thread import SideThread
from ros_kd_perception.structures import Perception
from ros_kd_perception.system.warning_throttle import WarningThrottle

_RESULT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_INFO_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_TF_PERIOD_S = 1.0


class FreeSpaceTopics:
    """Publishers from the start; the subscriptions to camera_info, of cameras with a scan, between `start` and `stop`.

    Args:
        node: makes and destroys them.
        cameras: their names.
        finder: of the node's model.
        builder: for the messages.
        warn: logs one sentence.

    Raises:
        ImportError: mountings are to come from TF, which is not installed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        cameras: Sequence[str],
        finder: FreeSpaceFinder,
        builder: MessageBuilder,
        warn: Callable[[str], object],
    ) -> None:
        self._node = node
        self._finder = finder
        self._builder = builder
        self._throttle = WarningThrottle(warn)
        scans = finder.parameters.scans
        self._tf = TfMounting(node) if any(scan.pose is None for scan in scans.values()) else None
        self._boundaries = {
            c: node.create_lifecycle_publisher(Image, f"~/{c}/free_space", _RESULT_QOS) for c in cameras
        }
        self._scans = {c: node.create_lifecycle_publisher(LaserScan, f"~/{c}/scan", _RESULT_QOS) for c in scans}
        # Working out the lines of a scan takes longer than a frame.
        self._calibration: SideThread[CameraInfo] = SideThread("scan geometry", list(scans), self._calibrate, warn)
        self._subscriptions: list[Any] = []
        self._problems = {c: f"no message on {node.resolve_topic_name(f'{c}/camera_info')} yet" for c in scans}
        self._unfit = dict.fromkeys(scans, "")  # what is wrong with the newest frame
        self._next_lookup_s: dict[str, float] = {}
        self._heard_s: dict[str, float] = {}  # when the newest CameraInfo was read

    def start(self) -> None:
        """Listen to camera_info."""
        self._calibration.start()
        for camera in self._scans:
            self._subscriptions.append(self._subscribe(camera))

    def stop(self, timeout_s: float) -> None:
        """End what `start` began; what was calibrated stays."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._calibration.stop(timeout_s)

    def destroy(self) -> None:
        """Take every publisher off the graph."""
        for publisher in (*self._boundaries.values(), *self._scans.values()):
            self._node.destroy_lifecycle_publisher(publisher)
        if self._tf is not None:
            self._tf.close()

    def publish(self, perception: Perception) -> None:
        """Publish what somebody subscribes to; never raises."""
        camera = perception.camera
        try:
            scan_topic = self._scans.get(camera)
            if scan_topic is not None:
                self._publish_scan(scan_topic, perception)
            if self._boundaries[camera].get_subscription_count():
                boundary = self._finder.boundary(perception)
                self._boundaries[camera].publish(self._builder.free_space(perception, boundary))
        except Exception:
            # The mask is out already; that no scan came of it must not cost the next mask.
            self._throttle.warn(camera, f"failed to publish the free space of {camera}: {traceback.format_exc()}")

    def statuses(self) -> list[Status]:
        """Of each scan: whether it can be made, and from where on it sees."""
        return [self._status(camera) for camera in self._scans]

    def _publish_scan(self, topic: Any, perception: Perception) -> None:
        camera = perception.camera
        scan = self._finder.scan(camera)
        if scan is None:
            return
        # Also while nobody subscribes: the status is of the newest frame.
        self._unfit[camera] = misfit = scan.misfit(perception.class_map)
        if misfit:
            self._throttle.warn(camera, f"no scan of {camera}: {misfit}")
        elif topic.get_subscription_count() and (ranges := self._finder.ranges(perception)) is not None:
            frame_id = self._finder.parameters.scans[camera].frame_id
            topic.publish(self._builder.scan(perception, frame_id, scan, ranges))

    def _subscribe(self, camera: str) -> Any:
        return self._node.create_subscription(
            CameraInfo, f"{camera}/camera_info", lambda message: self._calibration.offer(camera, message), _INFO_QOS
        )

    def _calibrate(self, camera: str, message: CameraInfo) -> None:
        scan = self._finder.parameters.scans[camera]
        self._heard_s[camera] = time.monotonic()
        try:
            pose = None
            if self._tf is not None and scan.pose is None:
                now_s = time.monotonic()
                if now_s < self._next_lookup_s.get(camera, 0.0):
                    return
                self._next_lookup_s[camera] = now_s + _TF_PERIOD_S
                pose = self._tf.pose(scan.frame_id, message.header.frame_id)
            self._finder.calibrate(camera, message, pose)
        except Exception as error:
            # Also of TF, whose mounting may have been another one: no scan rather than one by what held before.
            self._finder.forget(camera)
            self._problems[camera] = sentence = str(error) or type(error).__name__
            self._throttle.warn(camera, f"no scan of {camera}: {sentence}")
        else:
            self._problems[camera] = ""

    def _status(self, camera: str) -> Status:
        scan, problem = self._finder.scan(camera), self._problems[camera] or self._unfit[camera]
        name = f"{camera} scan"
        if problem or scan is None:
            return Status(Level.ERROR if self._subscriptions else Level.OK, name, problem or "not calibrated yet")
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
            ("camera_info_age_s", f"{time.monotonic() - self._heard_s.get(camera, math.nan):.1f}"),
        )
        if scan.calibration.doubt:
            return Status(Level.WARN, name, scan.calibration.doubt, values=values)
        if 2 * np.count_nonzero(scan.reaches) < len(shown):
            most = f"the image ends before {scan.beams.range_max_m:g} m in most directions"
            text = f"{most}; lower {camera}.scan.range_max_m"
            return Status(Level.WARN, name, text, values=values)
        return Status(Level.OK, name, f"sees from {scan.nearest_m.min():.1f} m on", values=values)
