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
from ros_kd_perception.messages.class_ids import CLASS_ID_PARAMETERS
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION, ModelContract
from ros_kd_perception.ros.topics.serialized_publish import publish_serialized
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.tracking.parameters import TRACK_OBJECTS, TRACKING_PARAMETERS, tracking_settings
from ros_kd_perception.tracking.tracked_cameras import TrackedCameras

_THRESHOLD = "score_threshold"
_PARAMETERS = TRACKING_PARAMETERS | CLASS_ID_PARAMETERS


class ResultTopics(TopicSink):
    """Publishes `~/<camera>/segmentation` and `~/<camera>/detections`, each with its latched `label_info`.

    A task has topics from the first model on that does it. While the active model does not do it, they are silent and
    `label_info` has no classes.

    This is the first sink: a frame counts as published when these messages are handed to the middleware. A message
    without a subscriber is not written, because the middleware would copy it twice all the same.

    With `track_objects`, the boxes get the ids of their objects, for the later sinks, too. Objects are followed whether
    there is a subscriber or not, so that their ids do not depend on who listens.
    """

    name = "segmentation and detections"
    parameters = _PARAMETERS

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._cameras = context.cameras
        self._masks: dict[str, LifecyclePublisher[Image]] = {}
        self._boxes: dict[str, LifecyclePublisher[Detection2DArray]] = {}
        self._mask_labels: dict[str, Publisher[LabelInfo]] = {}
        self._box_labels: dict[str, Publisher[LabelInfo]] = {}
        self._make_topics()
        tracking = tracking_settings(context.values)
        self._tracked = None
        if tracking is not None:
            classes = context.contract.detection_classes
            self._tracked = TrackedCameras(tracking, self._cameras, classes, context.takeovers)
        self._warn = context.warn
        self._tell_of_tracking()
        names = [_THRESHOLD, *(f"{camera}.{_THRESHOLD}" for camera in self._cameras)]
        self._thresholds: dict[str, float] = {name: context.values[name] for name in names}
        self._label_lock = threading.Lock()  # parameters and models change in different threads
        self._publish_labels()

    def publish(self, result: FrameResult) -> None:
        """Write the messages of a frame that have a subscriber, then publish them."""
        if self._tracked is not None:
            result.perception = self._tracked.track(result.perception)
        perception, written = result.perception, self.builder.serialized
        camera, messages = perception.camera, []
        if perception.class_map is not None and (masks := self._masks[camera]).get_subscription_count():
            messages.append((masks, written.segmentation(perception)))
        if perception.detections is not None and (boxes := self._boxes[camera]).get_subscription_count():
            messages.append((boxes, written.detections(perception)))
        result.hand_over()
        for publisher, message in messages:
            publish_serialized(publisher, message)

    def check_model(self, contract: ModelContract) -> str:
        """Return which topics fall silent with a model."""
        topics = {SEGMENTATION: "segmentation", DETECTION: "detections"}
        silent = [f"~/<camera>/{topics[task]}" for task in self.contract.tasks if task not in contract.tasks]
        return f"{' and '.join(silent)} falls silent" if silent else ""

    def change(self, values: Mapping[str, Any]) -> None:
        """Publish the labels again if a score threshold changed."""
        if changed := {name: values[name] for name in self._thresholds if name in values}:
            with self._label_lock:
                self._thresholds |= changed
                self._publish_labels()

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Publish the labels of the new model before its first results."""
        with self._label_lock:
            super().change_model(contract, builder)
            self._make_topics()
            self._publish_labels()
        if self._tracked is not None:
            self._tracked.change_model(contract.detection_classes)
        self._tell_of_tracking()

    def _tell_of_tracking(self) -> None:
        if self._tracked is not None and (sentence := self.contract.without_effect(TRACK_OBJECTS, DETECTION)):
            self._warn(sentence)

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

    def _label_topics(self, kind: str) -> dict[str, Publisher[LabelInfo]]:
        return {c: self.latched_publisher(LabelInfo, f"~/{c}/{kind}/label_info") for c in self._cameras}

    def _publish_labels(self) -> None:
        for publisher in self._mask_labels.values():
            publisher.publish(self.builder.segmentation_labels())
        for camera, publisher in self._box_labels.items():
            publisher.publish(self.builder.detection_labels(self._threshold_of(camera)))

    def _threshold_of(self, camera: str) -> float | None:
        # A negative threshold of a camera stands for the node's, a negative one of the node for the model's.
        of_camera, of_node = self._thresholds[f"{camera}.{_THRESHOLD}"], self._thresholds[_THRESHOLD]
        threshold = of_camera if of_camera >= 0 else of_node
        return threshold if threshold >= 0 else None
