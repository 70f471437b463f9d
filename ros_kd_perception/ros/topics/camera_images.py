"""CameraImages: the subscription to the images of one camera."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from ros_kd_perception.health.status import CameraLink
from ros_kd_perception.images.serialized_message import (
    SerializedCompressedImage,
    SerializedImage,
    read_compressed_image,
    read_image,
)
from ros_kd_perception.ros.topics.lost_messages import LostMessages
from ros_kd_perception.ros.topics.serialized_take import SerializedTake
from ros_kd_perception.structures import UInt8Array

_ROS_TYPE = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}


class _NeverExecuted(CallbackGroup):
    """Keeps executors from taking messages."""

    def can_execute(self, entity: Any) -> bool:
        """Return False."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Return False."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Do nothing."""


def relative_topic(camera: str, transport: str) -> str:
    """Return the topic of a camera's images, before remapping."""
    return f"{camera}/image_raw" if transport == "raw" else f"{camera}/image_raw/compressed"


def _never_called(message: Any) -> None:
    raise AssertionError("an executor took an image")


@dataclass(frozen=True)
class CollectedImage:
    """A message of a camera.

    Attributes:
        serialized: Its bytes, uint8 `[n]`.
        arrival_ns: Steady clock of its arrival in the middleware.
        missed: Number of messages that were missed between this one and the one collected before.
        reason: Why they were missed, one of `DROP_REASONS`.
    """

    serialized: UInt8Array
    arrival_ns: int
    missed: int
    reason: str


class CameraImages:
    """Subscribes to a camera between `subscribe` and `unsubscribe`, and takes a message when it is asked to.

    `Arrivals` notes that a message waits and puts this object into the mailbox. The thread that takes it out calls
    `collect`.

    Attributes:
        camera: Name of the camera.
        is_noted: Whether a message is known to wait.
        on_taken: Called after a message was taken.
        encoding: Encoding of the newest image that was taken, empty for a file.
        height: Its height in pixels.
        width: Its width in pixels.

    Args:
        node: The node that subscribes.
        camera: Name of the camera, a relative namespace.
        transport: `raw` or `compressed`.
        reliability: Reliability of the subscription, `best_effort` or `reliable`.
        topic: Topic to subscribe to. None for that of the camera.
    """

    def __init__(self, node: Node, camera: str, transport: str, reliability: str, topic: str | None = None) -> None:
        self.camera = camera
        self.is_noted = False
        self.on_taken: Callable[[], object] = lambda: None
        self.encoding, self.height, self.width = "", 0, 0
        self._node = node
        self._transport = transport
        self._qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy[reliability.upper()]
        )
        self._subscription: Subscription[Any] | None = None
        self._take: SerializedTake | None = None
        self._topic = topic or node.resolve_topic_name(relative_topic(camera, transport))
        self._lost = LostMessages(lambda: node.count_publishers(self._topic))
        self._noted_ns = 0

    def subscribe(self) -> None:
        """Subscribe, if that was not done yet. No executor takes the messages."""
        if self._subscription is not None:
            return
        self._lost = LostMessages(lambda: self._node.count_publishers(self._topic))
        self.is_noted = False
        self._subscription = self._node.create_subscription(
            Image if self._transport == "raw" else CompressedImage,
            self._topic,
            _never_called,
            self._qos,
            callback_group=_NeverExecuted(),
            raw=True,
        )
        self._take = SerializedTake(self._subscription)

    def unsubscribe(self) -> None:
        """Remove the subscription. A message that is being taken is finished first."""
        take, self._take = self._take, None
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)
        if take is not None:
            take.close()

    def held_handle(self, held: ExitStack) -> Any:
        """Return the handle of the subscription and hold it, or return None without a subscription."""
        subscription = self._subscription
        if subscription is None:
            return None
        try:
            held.enter_context(subscription.handle)
        except rclpy_implementation.InvalidHandle:  # another thread is removing it
            return None
        return subscription.handle

    def note(self) -> None:
        """Note that a message waits."""
        self._noted_ns = time.monotonic_ns()
        self.is_noted = True

    def collect(self) -> CollectedImage | None:
        """Take the newest message, or return None if there is none any more.

        Raises:
            BadFrame: It is not a message of the topic's type.
            RuntimeError: The middleware refuses.
        """
        take, noted_ns = self._take, self._noted_ns
        try:
            taken = take.take() if take is not None else None
            # Before another thread may take the next message: the gaps are those between one message and the next.
            missed = 0 if taken is None else self._lost.before(taken.info)
        finally:
            self.is_noted = False
            self.on_taken()
        if taken is None:
            return None
        # A message that came after the noted one has replaced it. Otherwise the missing ones never came.
        reason = "replaced" if taken.arrival_ns > noted_ns else "lost"
        return CollectedImage(taken.serialized, max(taken.arrival_ns, 0), missed, reason)

    def read(self, collected: CollectedImage) -> SerializedImage | SerializedCompressedImage:
        """Read the message, and remember its encoding and size.

        Raises:
            BadFrame: It is not a message of the topic's type.
        """
        if self._transport == "compressed":
            return read_compressed_image(collected.serialized)
        image = read_image(collected.serialized)
        self.encoding, self.height, self.width = image.encoding, image.height, image.width
        return image

    def has_publisher(self) -> bool:
        """Return whether the camera's topic has a publisher."""
        return self._node.count_publishers(self._topic) > 0

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
