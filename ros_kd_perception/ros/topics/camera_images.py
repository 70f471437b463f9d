"""CameraImages: the subscription to the images of one camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from ros_kd_perception.health.status import CameraLink
from ros_kd_perception.ros.topics.lost_messages import LostMessages

_YIELD_S = 1e-3
_ROS_TYPE = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}


class CameraImages:
    """Subscribes to a camera between `subscribe` and `unsubscribe`.

    Args:
        node: The node that subscribes.
        camera: Name of the camera, a relative namespace.
        transport: `raw` or `compressed`.
        reliability: Reliability of the subscription, `best_effort` or `reliable`.
    """

    def __init__(self, node: LifecycleNode, camera: str, transport: str, reliability: str) -> None:
        self._node = node
        self._camera = camera
        self._transport = transport
        self._qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy[reliability.upper()]
        )
        self._subscription: Subscription[Any] | None = None
        self._relative_topic = f"{camera}/image_raw" if transport == "raw" else f"{camera}/image_raw/compressed"
        self._topic = node.resolve_topic_name(self._relative_topic)

    def subscribe(self, put: Callable[[str, Any], bool], count_lost: Callable[[str, int], object]) -> None:
        """Pass on each message, and count the messages that were lost on their way.

        Args:
            put: Called with the camera and each message. Returns True if it woke an idle network thread.
            count_lost: Called with the camera and the number of messages that were lost before one that arrived.
        """
        camera = self._camera
        lost = LostMessages(lambda: self._node.count_publishers(self._topic))

        def receive(message: Any, info: Mapping[str, Any]) -> None:
            if count := lost.before(info):
                count_lost(camera, count)
            if put(camera, message):
                # Leave the interpreter to the worker until the network runs. The executor goes through its entities
                # after each callback and would take the interpreter whenever the worker releases it.
                time.sleep(_YIELD_S)

        message_type = Image if self._transport == "raw" else CompressedImage
        # Before ROS 2 Iron, rclpy passes no information about a message.
        callback = receive if hasattr(Subscription, "CallbackType") else lambda message: receive(message, {})
        self._subscription = self._node.create_subscription(message_type, self._relative_topic, callback, self._qos)

    def unsubscribe(self) -> None:
        """Remove the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def link(self) -> CameraLink:
        """Return the number of publishers on the camera's topic, and why one of them does not match."""
        endpoints = self._node.get_publishers_info_by_topic(self._topic)
        mismatch = ""
        for endpoint in endpoints:
            if endpoint.topic_type != _ROS_TYPE[self._transport]:
                mismatch = (
                    f"it sends {endpoint.topic_type}, expected {_ROS_TYPE[self._transport]}; set image_transport "
                    "or remap the topic"
                )
                continue
            compatibility, reason = qos_check_compatible(endpoint.qos_profile, self._qos)
            if compatibility == QoSCompatibility.ERROR:
                mismatch = f"incompatible QoS, {reason.strip().rstrip(';')}; set image_reliability: best_effort"
        return CameraLink(self._topic, len(endpoints), mismatch)
