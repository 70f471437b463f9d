"""DebugTopics: how long each frame took and how old it was when its results went out, for plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64

from ros_kd_perception.health.status import FrameTimes

_QOS = QoSProfile(depth=10)
PROCESSING = "processing_time_ms"
LATENCY = "pipeline_latency_ms"


class DebugTopics:
    """Publishes the times of every frame, of all cameras together and of each, while somebody subscribes.

    Names and meanings are Autoware's: processing time is what the work on a frame took, pipeline latency its age by its
    header stamp when its results were published. The type is std_msgs/Float64, which every ROS installation has, rather
    than autoware_internal_debug_msgs/Float64Stamped, which few have; the figure is `data` in both.

    Args:
        node: makes and destroys the publishers.
        cameras: their names.
    """

    def __init__(self, node: LifecycleNode, cameras: Sequence[str]) -> None:
        self._node = node
        self._of_all = self._pair("~/debug")
        self._of_camera = {camera: self._pair(f"~/debug/{camera}") for camera in cameras}

    def publish(self, camera: str, times: FrameTimes) -> None:
        """Tell the times of a frame whose results are out; no latency where stamps and clock cannot be compared."""
        values = (times.processing_ms, times.stamp_age_ms)
        for pair in (self._of_all, self._of_camera[camera]):
            for publisher, value in zip(pair, values, strict=True):
                if value is not None and publisher.get_subscription_count():
                    publisher.publish(Float64(data=value))

    def destroy(self) -> None:
        """Take the topics off the graph."""
        for pair in (self._of_all, *self._of_camera.values()):
            for publisher in pair:
                self._node.destroy_lifecycle_publisher(publisher)

    def _pair(self, base: str) -> tuple[LifecyclePublisher[Any], LifecyclePublisher[Any]]:
        processing = self._node.create_lifecycle_publisher(Float64, f"{base}/{PROCESSING}", _QOS)
        return processing, self._node.create_lifecycle_publisher(Float64, f"{base}/{LATENCY}", _QOS)
