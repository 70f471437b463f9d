"""AnnotationTopics: boxes as annotations that Foxglove draws on any picture of the camera."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy

from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import DETECTION, ClassInfo, ModelContract
from ros_kd_perception.ros.installed_messages import message_class
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.scheduling.side_thread import SideThread
from ros_kd_perception.structures import Perception

PACKAGE = "foxglove_msgs"
_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_UNUSABLE = (
    f"expected the ROS 2 package {PACKAGE} to be usable for ~/<camera>/annotations, got: {{error}}; reinstall "
    "ros-$ROS_DISTRO-foxglove-msgs, or remove it"
)
_UNKNOWN = ClassInfo(-1, "unknown", (128, 128, 128))


class AnnotationBuilder:
    """Builds foxglove_msgs/ImageAnnotations of boxes: a rectangle and a line of text for each.

    Fields that came with a later version of the package are filled if the installed version has them.

    Args:
        lookup: Returns a message class of rclpy by its full name.

    Raises:
        ImportError: A message class is missing. The text is one sentence.
    """

    def __init__(self, lookup: Callable[[str], Any] = message_class) -> None:
        self._time = lookup("builtin_interfaces/msg/Time")
        self.annotations = lookup(f"{PACKAGE}/msg/ImageAnnotations")
        self._points = lookup(f"{PACKAGE}/msg/PointsAnnotation")
        self._text = lookup(f"{PACKAGE}/msg/TextAnnotation")
        self._point = lookup(f"{PACKAGE}/msg/Point2")
        self._color = lookup(f"{PACKAGE}/msg/Color")

    def build(self, perception: Perception, classes: tuple[ClassInfo, ...], height_px: int) -> Any:
        """Return the boxes of a frame in source-image pixels. No box gives a message without annotations.

        Args:
            perception: The result for the frame.
            classes: Names and colours of the detection classes.
            height_px: Height of the image. Lines and letters are as large as in the overlay.
        """
        found = perception.require_detections()
        infos = {info.id: info for info in classes}
        ids = [0] * len(found) if found.track_ids is None else found.track_ids.tolist()
        seconds, nanoseconds = divmod(perception.stamp_ns, 1_000_000_000)
        stamp = self._time(sec=seconds, nanosec=nanoseconds)
        message = self.annotations()
        if hasattr(message, "timestamp"):
            message.timestamp = stamp
        rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), ids, strict=True)
        for box, score, label, track_id in rows:
            info = infos.get(label, _UNKNOWN)
            text = f"{info.name} {score:.2f}" + (f" #{track_id}" if track_id else "")
            message.points.append(self._rectangle(box, info, stamp, max(1, round(height_px / 360))))
            message.texts.append(self._label(box, info, stamp, text, max(12, round(height_px / 45))))
        return message

    def _rectangle(self, box_xyxy: list[float], info: ClassInfo, stamp: Any, thickness_px: int) -> Any:
        left, top, right, bottom = box_xyxy
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        return self._points(
            timestamp=stamp,
            type=self._points.LINE_LOOP,
            points=[self._point(x=x, y=y) for x, y in corners],
            outline_color=self._color_of(info.color_rgb),
            thickness=float(thickness_px),
        )

    def _label(self, box_xyxy: list[float], info: ClassInfo, stamp: Any, text: str, letters_px: int) -> Any:
        left, top = box_xyxy[:2]
        ink = (0, 0, 0) if sum(info.color_rgb) > 3 * 128 else (255, 255, 255)
        return self._text(
            timestamp=stamp,
            position=self._point(x=left, y=max(top, float(letters_px))),  # its lower left corner, inside the image
            text=text,
            font_size=float(letters_px),
            text_color=self._color_of(ink),
            background_color=self._color_of(info.color_rgb),
        )

    def _color_of(self, color_rgb: tuple[int, int, int]) -> Any:
        red, green, blue = color_rgb
        return self._color(r=red / 255, g=green / 255, b=blue / 255, a=1.0)


@dataclass(frozen=True)
class _Request:
    """Boxes to annotate, with the classes of the model that found them."""

    perception: Perception
    classes: tuple[ClassInfo, ...]
    height_px: int


class AnnotationTopics(TopicSink):
    """Publishes `~/<camera>/annotations` where foxglove_msgs is installed and the model does detection.

    The messages are built in a side thread, and only while the topic has subscribers.
    """

    name = "annotations"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._cameras, self._warn = context.cameras, context.warn
        self._topics: dict[str, Any] = {}
        self._builder = _installed_builder(context.warn)
        self._make_topics()
        self._building: SideThread[_Request] = SideThread("annotations", context.cameras, self._build, context.warn)

    def start(self) -> None:
        """Start the thread."""
        self._building.start()

    def stop(self, timeout_s: float) -> None:
        """Drop the requests that wait and end the thread."""
        self._building.stop(timeout_s)

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Name the boxes of the new model's frames by its classes."""
        super().change_model(contract, builder)
        self._make_topics()

    def publish(self, result: FrameResult) -> None:
        """Request the annotations of a frame if there is a subscriber. Never waits."""
        camera, perception = result.frame.camera, result.perception
        if perception.detections is None or camera not in self._topics:
            return
        if self._topics[camera].get_subscription_count():
            height_px = result.frame.image_bgr.shape[0]
            self._building.offer(camera, _Request(perception, self.contract.detection_classes, height_px))

    def _make_topics(self) -> None:
        if self._builder is None or DETECTION not in self.contract.tasks or self._topics:
            return
        kind = self._builder.annotations
        try:
            self._topics = {c: self.publisher(kind, f"~/{c}/annotations", _QOS) for c in self._cameras}
        except Exception as error:  # rclpy has several for libraries of a message that do not load
            self._warn(_UNUSABLE.format(error=error))
            self._builder = None

    def _build(self, camera: str, request: _Request) -> None:
        assert self._builder is not None
        message = self._builder.build(request.perception, request.classes, request.height_px)
        self._topics[camera].publish(message)


def _installed_builder(warn: Callable[[str], object]) -> AnnotationBuilder | None:
    """Return a builder, or None without the package. A broken package costs a warning, not the node."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:  # a folder of this name without __init__.py is no installed package
        return None
    try:
        return AnnotationBuilder()
    except Exception as error:
        warn(_UNUSABLE.format(error=error))
        return None
