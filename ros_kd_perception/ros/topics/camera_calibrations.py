"""CameraCalibrations: the CameraInfo and the mounting of some cameras, from their topics and from TF."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo

from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.ros.topics.camera_info import INFO_QOS
from ros_kd_perception.ros.topics.tf_mounting import TfMounting
from ros_kd_perception.scheduling.side_thread import SideThread
from ros_kd_perception.system.warning_throttle import WarningThrottle

_TF_PERIOD_S = 1.0


class CameraCalibrations:
    """Subscribes to `<camera>/camera_info` while the node is active, and hands over what it says in a side thread.

    Attributes:
        problems: Why a camera has no calibration, one sentence by camera; empty for cameras that have one.

    Args:
        node: The node, for the subscriptions.
        tf_frames: Cameras -> frame in which TF has their mounting. None for a mounting from parameters.
        use: Called with a camera, its CameraInfo and its mounting from TF. An error ends the camera's calibration.
        forget: Called with a camera whose calibration has ended.
        warn: Logs one sentence as a warning.
        resolve: Returns the full name of a topic.
        what: What is made with the calibration of each camera, for warnings.

    Raises:
        ImportError: Mountings come from TF, which is not installed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        tf_frames: Mapping[str, str | None],
        *,
        use: Callable[[str, CameraInfo, CameraPose | None], None],
        forget: Callable[[str], None],
        warn: Callable[[str], object],
        resolve: Callable[[str], str],
        what: Mapping[str, str],
    ) -> None:
        self._node, self._tf_frames = node, tf_frames
        self._use, self._forget, self._resolve, self._what = use, forget, resolve, what
        self._throttle = WarningThrottle(warn)
        self._tf = TfMounting(node) if any(tf_frames.values()) else None
        # Computing the lines of a scan takes longer than a frame.
        self._thread: SideThread[CameraInfo] = SideThread("calibrations", list(tf_frames), self.take, warn)
        self._subscriptions: list[Any] = []
        self._next_lookup_s: dict[str, float] = {}
        self._received_s: dict[str, float] = {}
        self.problems = {c: f"no message on {node.resolve_topic_name(self._topic(c))} yet" for c in tf_frames}

    @property
    def is_subscribed(self) -> bool:
        """Whether messages are expected."""
        return bool(self._subscriptions)

    def age_s(self, camera: str) -> float:
        """Return when the newest CameraInfo came, in seconds before now. NaN before the first."""
        return time.monotonic() - self._received_s.get(camera, math.nan)

    def start(self) -> None:
        """Subscribe."""
        self._thread.start()
        self._subscriptions += [self._subscribe(camera) for camera in self._tf_frames]

    def stop(self, timeout_s: float) -> None:
        """Unsubscribe. The calibrations stay."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._thread.stop(timeout_s)

    def close(self) -> None:
        """Remove the TF listener."""
        if self._tf is not None:
            self._tf.close()

    def take(self, camera: str, message: CameraInfo) -> None:
        """Hand over a CameraInfo, or end the calibration if it cannot be used. Called in the side thread."""
        self._received_s[camera] = time.monotonic()
        try:
            pose, tf_frame = None, self._tf_frames[camera]
            if self._tf is not None and tf_frame is not None:
                now_s = time.monotonic()
                if now_s < self._next_lookup_s.get(camera, 0.0):
                    return
                self._next_lookup_s[camera] = now_s + _TF_PERIOD_S
                pose = self._tf.pose(tf_frame, message.header.frame_id)
            self._use(camera, message, pose)
        except Exception as error:
            # No result is better than one with an old calibration or an old mounting from TF.
            self._forget(camera)
            self.problems[camera] = sentence = str(error) or type(error).__name__
            self._throttle.warn(camera, f"no {self._what[camera]} of {camera}: {sentence}")
        else:
            self.problems[camera] = ""

    def _subscribe(self, camera: str) -> Any:
        return self._node.create_subscription(
            CameraInfo, self._topic(camera), lambda message: self._thread.offer(camera, message), INFO_QOS
        )

    def _topic(self, camera: str) -> str:
        return self._resolve(f"{camera}/camera_info")
