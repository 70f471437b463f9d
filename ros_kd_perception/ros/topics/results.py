"""ResultTopics: the mask and the boxes of every frame, and the names of their classes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult


class ResultTopics(TopicSink):
    """Publishes `~/<camera>/segmentation` and `~/<camera>/detections`, each with its latched `label_info`.

    This is the first sink: a frame counts as published when these messages are handed to the middleware. They are built
    for every frame, also without a subscriber.
    """

    name = "segmentation and detections"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._masks = {c: self.publisher(Image, f"~/{c}/segmentation") for c in context.cameras}
        self._boxes = {c: self.publisher(Detection2DArray, f"~/{c}/detections") for c in context.cameras}
        self._mask_labels, self._box_labels = (
            [self.latched_publisher(LabelInfo, f"~/{c}/{kind}/label_info") for c in context.cameras]
            for kind in ("segmentation", "detections")
        )
        self._score_threshold: float = context.values["score_threshold"]
        self._label_lock = threading.Lock()  # parameters and models change in different threads
        self._publish_labels()

    def publish(self, result: FrameResult) -> None:
        """Build both messages of a frame, then publish them."""
        perception = result.perception
        segmentation = self.builder.segmentation(perception)
        detections = self.builder.detections(perception)
        result.hand_over()
        self._masks[perception.camera].publish(segmentation)
        self._boxes[perception.camera].publish(detections)

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
            self._publish_labels()

    def _publish_labels(self) -> None:
        # A negative threshold stands for the one that the model was exported with.
        threshold = None if self._score_threshold < 0 else self._score_threshold
        segmentation = self.builder.segmentation_labels()
        detections = self.builder.detection_labels(threshold)
        for mask_labels, box_labels in zip(self._mask_labels, self._box_labels, strict=True):
            mask_labels.publish(segmentation)
            box_labels.publish(detections)
