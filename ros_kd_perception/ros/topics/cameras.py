"""Cameras: the subscriptions of several cameras, and the thread that notes their messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node

from ros_kd_perception.health.status import CameraLink
from ros_kd_perception.ros.topics.arrivals import Arrivals
from ros_kd_perception.ros.topics.camera_images import CameraImages
from ros_kd_perception.scheduling.mailbox import QueuedMessage


class Cameras:
    """Notes each waiting message, and takes it when its turn has come.

    Attributes:
        arrivals: Notes the messages.

    Args:
        node: The node that subscribes.
        images: The images of each camera.
        put: Called with camera and images when a message waits. Returns True if it woke an idle network thread.
        count_missed: Called with camera, number, reason and arrival time of messages that were missed.
    """

    def __init__(
        self,
        node: Node,
        images: Sequence[CameraImages],
        put: Callable[[str, CameraImages], bool],
        count_missed: Callable[[str, int, str, int], object],
    ) -> None:
        self._images = {one.camera: one for one in images}
        self._count_missed = count_missed
        self.arrivals = Arrivals(node.context, images, put, node.get_logger().error)

    def start(self) -> None:
        """Start to note messages. Then subscribe to each camera."""
        self.arrivals.start()

    def subscribe(self, camera: str) -> None:
        """Subscribe to a camera. Does nothing if it is subscribed to already."""
        self._images[camera].subscribe()
        self.arrivals.look_again()

    def unsubscribe(self, camera: str) -> None:
        """Remove the subscription of a camera."""
        self._images[camera].unsubscribe()
        self.arrivals.look_again()

    def close(self) -> None:
        """Note no more messages. Those that were noted can still be taken."""
        self.arrivals.stop()

    def stop(self) -> None:
        """Remove all subscriptions."""
        self.close()
        for images in self._images.values():
            images.unsubscribe()

    def link(self, camera: str) -> CameraLink:
        """Return the publishers on the camera's topic."""
        return self._images[camera].link()

    def collect(self, queued: QueuedMessage[CameraImages]) -> QueuedMessage[Any] | None:
        """Take the newest message of a camera whose turn has come, or return None if there is none any more.

        Raises:
            BadFrame: It is not a message of the topic's type.
            RuntimeError: The middleware refuses.
        """
        images = queued.message
        found = images.collect()
        if found is None:
            return None
        self._count_missed(queued.camera, found.missed, found.reason, found.arrival_ns)
        return QueuedMessage(queued.camera, images.read(found), found.arrival_ns)
