"""ResultTopics: the mask and the boxes of every frame, and the names of their classes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from rclpy.lifecycle import LifecyclePublisher
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION, ModelContract
from ros_kd_perception.ros.topics.serialized_publish import publish_serialized
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult


class ResultTopics(TopicSink):
    """Publishes `~/<camera>/segmentation` and `~/<camera>/detections`, each with its latched `label_info`.

    A task has topics from the first model on that does it. While the active model does not do it, they are silent and
    `label_info` has no classes.

    This is the first sink: a frame counts as published when these messages are handed to the middleware. They are built
    for every frame, also without a subscriber.
    """

    name = "segmentation and detections"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._cameras = context.cameras
        self._masks: dict[str, LifecyclePublisher[Image]] = {}
        self._boxes: dict[str, LifecyclePublisher[Detection2DArray]] = {}
        self._mask_labels: list[Publisher[LabelInfo]] = []
        self._box_labels: list[Publisher[LabelInfo]] = []
        self._make_topics()
        self._score_threshold: float = context.values["score_threshold"]
        self._label_lock = threading.Lock()  # parameters and models change in different threads
        self._publish_labels()

    def publish(self, result: FrameResult) -> None:
        """Write the messages of a frame, then publish them."""
        perception = result.perception
        written = self.builder.serialized
        segmentation = None if perception.class_map is None else written.segmentation(perception)
        detections = None if perception.detections is None else written.detections(perception)
        result.hand_over()
        if segmentation is not None:
            publish_serialized(self._masks[perception.camera], segmentation)
        if detections is not None:
            publish_serialized(self._boxes[perception.camera], detections)

    def check_model(self, contract: ModelContract) -> str:
        """Return which topics fall silent with a model."""
        topics = {SEGMENTATION: "segmentation", DETECTION: "detections"}
        silent = [f"~/<camera>/{topics[task]}" for task in self.contract.tasks if task not in contract.tasks]
        return f"{' and '.join(silent)} falls silent" if silent else ""

    def change(self, values: Mapping[str, Any]) -> None:
        """Publish the labels again if the score threshold changed."""
        if "score_threshold" in values:
            with self._label_lock:
                self._score_threshold = values["score_threshold"]
                self._publish_labels()

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Publish the labels of the new model before its first results."""
        with self._label_lock:
            super().change_model(contract, builder)
            self._make_topics()
            self._publish_labels()

    def _make_topics(self) -> None:
        """Make the topics of the model's tasks that are not there yet.

        Those of all labels come last: a listener that sees one of them knows the tasks of the model.
        """
        tasks = self.contract.tasks
        if SEGMENTATION in tasks and not self._masks:
            self._masks = {c: self.publisher(Image, f"~/{c}/segmentation") for c in self._cameras}
        if DETECTION in tasks and not self._boxes:
            self._boxes = {c: self.publisher(Detection2DArray, f"~/{c}/detections") for c in self._cameras}
        if self._masks and not self._mask_labels:
            self._mask_labels = self._label_topics("segmentation")
        if self._boxes and not self._box_labels:
            self._box_labels = self._label_topics("detections")

    def _label_topics(self, kind: str) -> list[Publisher[LabelInfo]]:
        return [self.latched_publisher(LabelInfo, f"~/{c}/{kind}/label_info") for c in self._cameras]

    def _publish_labels(self) -> None:
        # A negative threshold stands for the one that the model was exported with.
        threshold = None if self._score_threshold < 0 else self._score_threshold
        for publishers, labels in (
            (self._mask_labels, self.builder.segmentation_labels()),
            (self._box_labels, self.builder.detection_labels(threshold)),
        ):
            for publisher in publishers:
                publisher.publish(labels)
