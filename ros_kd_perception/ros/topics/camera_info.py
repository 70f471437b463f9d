"""CameraInfoTopics: the CameraInfo of every camera again, beside its mask and with the mask's header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.lifecycle import LifecyclePublisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.optional_outputs import CAMERA_INFO, CAMERA_INFO_PARAMETERS
from ros_kd_perception.model.contract import SEGMENTATION, ModelContract
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.system.warning_throttle import WarningThrottle

INFO_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class CameraInfoTopics(TopicSink):
    """Publishes `~/<camera>/camera_info` with `publish_camera_info`, only while it has a subscriber.

    The name is the one that image_transport and RViz expect beside `~/<camera>/segmentation`. The mask has the size of
    the image, so the fields are those of the camera's newest message.
    """

    name = "camera_info"
    parameters = CAMERA_INFO_PARAMETERS

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._cameras = context.cameras if context.values[CAMERA_INFO] else ()
        self._warn = context.warn
        self._throttle = WarningThrottle(context.warn)
        self._topics: dict[str, LifecyclePublisher[CameraInfo]] = {}
        self._make_topics()
        self._subscriptions: list[Any] = []
        self._newest: dict[str, CameraInfo] = {}
        self._read: dict[str, tuple[CameraInfo, CameraInfoFields | None]] = {}
        self._problems = dict.fromkeys(self._cameras, "")  # why the newest message or frame does not fit
        topics = {camera: self._resolve(_topic(camera)) for camera in self._cameras}
        self._silences = {c: f"no message on {self.node.resolve_topic_name(t)} yet" for c, t in topics.items()}
        self._enabled: dict[str, bool] = {c: context.values[f"{c}.enabled"] for c in self._cameras}

    def start(self) -> None:
        """Subscribe to camera_info."""
        self._subscriptions = [self._subscribe(camera) for camera in self._cameras]

    def stop(self, timeout_s: float) -> None:
        """Unsubscribe from camera_info. The newest messages stay."""
        for subscription in self._subscriptions:
            self.node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Make the topics if this is the first model with segmentation."""
        super().change_model(contract, builder)
        self._make_topics()

    def publish(self, result: FrameResult) -> None:
        """Publish the CameraInfo of a frame if it has a subscriber and the camera sends one."""
        perception = result.perception
        camera, class_map = perception.camera, perception.class_map
        publisher = self._topics.get(camera)
        if publisher is None or class_map is None or not publisher.get_subscription_count():
            return
        fields = self._fields_of(camera)
        if fields is None:
            return
        self._problems[camera] = misfit = fields.misfit(*class_map.shape)
        if misfit:
            self._throttle.warn(camera, f"no camera_info of {camera}: {misfit}")
        else:
            publisher.publish(self.builder.camera_info(perception, fields))

    def change(self, values: Mapping[str, Any]) -> None:
        """Note which cameras are disabled: their missing CameraInfo is no fault."""
        self._enabled = {c: values.get(f"{c}.enabled", enabled) for c, enabled in self._enabled.items()}

    def statuses(self) -> list[Status]:
        """Return a status for each camera: whether its CameraInfo is passed on, or why it cannot be."""
        return [self._status(camera) for camera in self._topics]

    def _status(self, camera: str) -> Status:
        name, problem = f"{camera} camera_info", self._problems[camera]
        if not self._enabled[camera]:
            return Status(Level.OK, name, f"disabled with {camera}")
        if SEGMENTATION not in self.contract.tasks:
            return Status(Level.OK, name, "the model makes no masks")
        if not self._topics[camera].get_subscription_count():
            # The messages are not read then, so nothing is known of them.
            return Status(Level.OK, name, "without a subscriber")
        if problem := problem or ("" if camera in self._newest else self._silences[camera]):
            return Status(Level.WARN if self._subscriptions else Level.OK, name, problem)
        return Status(Level.OK, name, "passed on")

    def _fields_of(self, camera: str) -> CameraInfoFields | None:
        """Return the fields of the newest message, read once, or None without a usable one."""
        message = self._newest.get(camera)
        if message is None:
            return None
        read, fields = self._read.get(camera, (None, None))
        if read is message:
            return fields
        fields = None
        try:
            fields = CameraInfoFields.from_message(message)
        except ValueError as error:
            self._problems[camera] = str(error)
            self._throttle.warn(camera, f"no camera_info of {camera}: {error}")
        self._read[camera] = (message, fields)
        return fields

    def _subscribe(self, camera: str) -> Any:
        def keep(message: CameraInfo) -> None:
            self._newest[camera] = message

        return self.node.create_subscription(CameraInfo, self._resolve(_topic(camera)), keep, INFO_QOS)

    def _make_topics(self) -> None:
        if self._cameras and (sentence := self.contract.without_effect(CAMERA_INFO, SEGMENTATION)):
            self._warn(sentence)
        if SEGMENTATION in self.contract.tasks and not self._topics:
            self._topics = {c: self.publisher(CameraInfo, f"~/{c}/camera_info") for c in self._cameras}


def _topic(camera: str) -> str:
    return f"{camera}/camera_info"
