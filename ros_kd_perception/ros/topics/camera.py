"""CameraTopics: what the node subscribes to and publishes for one camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from ros_kd_perception.health.status import CameraLink, FrameTimes
from ros_kd_perception.ros.topics.debug import DebugTopics
from ros_kd_perception.ros.topics.free_space import FreeSpaceTopics
from ros_kd_perception.ros.topics.lost_messages import LostMessages
from ros_kd_perception.ros.topics.pictures import Pictures
from ros_kd_perception.ros.topics.shadow import Shadow
from ros_kd_perception.structures import Frame, Perception

_RESULT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_PICTURE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_YIELD_S = 1e-3
_ROS_TYPE = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}


class CameraTopics:
    """Publishers from the start, the subscription between `subscribe` and `unsubscribe`.

    Args:
        node: makes and destroys them.
        camera: its name, a relative namespace.
        transport: `raw` or `compressed`.
        reliability: `best_effort` or `reliable`, of the subscription.
        pictures: makes and publishes overlays and PNG masks where nobody waits for them.
        debug: for the times of each frame.
        free_space: publishes free space.
        shadow: shows frames to a candidate model as well.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        transport: str,
        reliability: str,
        pictures: Pictures,
        debug: DebugTopics,
        free_space: FreeSpaceTopics,
        shadow: Shadow,
    ) -> None:
        self.camera = camera
        self._node = node
        self._transport = transport
        self._pictures = pictures
        self._debug = debug
        self._free_space = free_space
        self._shadow = shadow
        self._image_qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy[reliability.upper()]
        )
        self._subscription: Subscription[Any] | None = None
        base = f"~/{camera}"
        self._segmentation = node.create_lifecycle_publisher(Image, f"{base}/segmentation", _RESULT_QOS)
        self._detections = node.create_lifecycle_publisher(Detection2DArray, f"{base}/detections", _RESULT_QOS)
        self._overlay = node.create_lifecycle_publisher(Image, f"{base}/overlay", _PICTURE_QOS)
        # Where image_transport looks for the `compressed` transport of the mask.
        self._png = node.create_lifecycle_publisher(CompressedImage, f"{base}/segmentation/compressed", _PICTURE_QOS)
        self._segmentation_labels = self._latched(f"{base}/segmentation/label_info")
        self._detection_labels = self._latched(f"{base}/detections/label_info")
        self._relative_topic = f"{camera}/image_raw" if transport == "raw" else f"{camera}/image_raw/compressed"
        self._topic = node.resolve_topic_name(self._relative_topic)

    def subscribe(self, put: Callable[[str, Any], bool], count_lost: Callable[[str, int], object]) -> None:
        """Hand on what arrives, and tell what did not.

        Args:
            put: given the camera and each message; says whether an idle network was woken.
            count_lost: given the camera and how many messages were lost before one that arrived.
        """
        camera = self.camera
        lost = LostMessages(lambda: self._node.count_publishers(self._topic))

        def receive(message: Any, info: Mapping[str, Any]) -> None:
            if count := lost.before(info):
                count_lost(camera, count)
            if put(camera, message):
                # Lets the worker have the interpreter until the network runs: the executor, which goes through its
                # entities after each callback, would take it from the worker every time that it lets go of it.
                time.sleep(_YIELD_S)

        kind = Image if self._transport == "raw" else CompressedImage
        # Before ROS 2 Iron, rclpy tells nothing of a message.
        callback = receive if hasattr(Subscription, "CallbackType") else lambda message: receive(message, {})
        self._subscription = self._node.create_subscription(kind, self._relative_topic, callback, self._image_qos)

    def unsubscribe(self) -> None:
        """End what `subscribe` began."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def destroy(self) -> None:
        """Take every publisher and the subscription off the graph."""
        self.unsubscribe()
        for publisher in (self._segmentation, self._detections, self._overlay, self._png):
            self._node.destroy_lifecycle_publisher(publisher)
        for latched in (self._segmentation_labels, self._detection_labels):
            self._node.destroy_publisher(latched)

    def publish_labels(self, segmentation_labels: LabelInfo, detection_labels: LabelInfo) -> None:
        """Say which id is which class, also to those who subscribe later."""
        self._segmentation_labels.publish(segmentation_labels)
        self._detection_labels.publish(detection_labels)

    def publish(self, segmentation: Image, detections: Detection2DArray) -> None:
        """Hand both results of a frame to the middleware."""
        self._segmentation.publish(segmentation)
        self._detections.publish(detections)

    def publish_times(self, times: FrameTimes) -> None:
        """Tell how long a frame took, if anybody looks."""
        self._debug.publish(self.camera, times)

    def publish_free_space(self, perception: Perception) -> None:
        """Find and publish the free space, as far as anybody subscribes to it; never raises."""
        self._free_space.publish(perception)

    def offer_pictures(self, frame: Frame, perception: Perception) -> None:
        """Have an overlay drawn and the mask packed as PNG, each if anybody subscribes, and the shadow look at it."""
        self._shadow.offer(frame, perception)
        if self._overlay.get_subscription_count():
            self._pictures.offer_overlay(frame, perception)
        if self._png.get_subscription_count():
            self._pictures.offer_png(perception)

    def publish_overlay(self, message: Image) -> None:
        """Hand an overlay to the middleware."""
        self._overlay.publish(message)

    def publish_png(self, message: CompressedImage) -> None:
        """Hand a packed mask to the middleware."""
        self._png.publish(message)

    def link(self) -> CameraLink:
        """Who publishes on the camera's topic, and whether the subscription can hear them."""
        endpoints = self._node.get_publishers_info_by_topic(self._topic)
        mismatch = ""
        for endpoint in endpoints:
            if endpoint.topic_type != _ROS_TYPE[self._transport]:
                mismatch = (
                    f"it sends {endpoint.topic_type}, expected {_ROS_TYPE[self._transport]}; set image_transport "
                    "or remap the topic"
                )
                continue
            compatibility, reason = qos_check_compatible(endpoint.qos_profile, self._image_qos)
            if compatibility == QoSCompatibility.ERROR:
                mismatch = f"incompatible QoS, {reason.strip().rstrip(';')}; set image_reliability: best_effort"
        return CameraLink(self._topic, len(endpoints), mismatch)

    def _latched(self, topic: str) -> Publisher[Any]:
        return self._node.create_publisher(LabelInfo, topic, _LATCHED_QOS)
