"""ConfidenceTopics: how sure the network is of each pixel of the mask."""

from __future__ import annotations

from rclpy.lifecycle import LifecyclePublisher
from sensor_msgs.msg import Image

from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.optional_outputs import CONFIDENCE, CONFIDENCE_PARAMETERS
from ros_kd_perception.model.confidence import confidence_mask
from ros_kd_perception.model.contract import SEGMENTATION, ModelContract
from ros_kd_perception.ros.topics.serialized_publish import publish_serialized
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult


class ConfidenceTopics(TopicSink):
    """Publishes `~/<camera>/confidence` with `publish_confidence`, made only while it has a subscriber."""

    name = "confidence"
    parameters = CONFIDENCE_PARAMETERS

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._cameras = context.cameras if context.values[CONFIDENCE] else ()
        self._warn = context.warn
        self._masks: dict[str, LifecyclePublisher[Image]] = {}
        self._make_topics()

    def publish(self, result: FrameResult) -> None:
        """Publish the confidence of a frame if it has a subscriber."""
        perception = result.perception
        publisher = self._masks.get(perception.camera)
        if publisher is None or not publisher.get_subscription_count():
            return
        mask = confidence_mask(perception)
        if mask is not None:
            publish_serialized(publisher, self.builder.serialized.gray_image(perception, mask))

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Make the topics if this is the first model with segmentation."""
        super().change_model(contract, builder)
        self._make_topics()

    def _make_topics(self) -> None:
        if self._cameras and (sentence := self.contract.without_effect(CONFIDENCE, SEGMENTATION)):
            self._warn(sentence)
        if SEGMENTATION in self.contract.tasks and not self._masks:
            self._masks = {c: self.publisher(Image, f"~/{c}/confidence") for c in self._cameras}
