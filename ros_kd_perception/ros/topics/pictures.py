"""PictureTopics: overlays and PNG masks, made only for subscribers and each in a side thread of its own."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.lifecycle import LifecyclePublisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.free_space.parameters import read_free_space_parameters
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import SEGMENTATION, ModelContract
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.scheduling.side_thread import SideThread
from ros_kd_perception.structures import Frame, Perception

_PICTURE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class _PictureRequest:
    """A picture to make of a frame.

    The model may change while it waits, so it keeps the class names, the builder and the drivable classes of the model
    that perceived the frame.
    """

    frame: Frame
    perception: Perception
    contract: ModelContract
    builder: MessageBuilder
    finder: FreeSpaceFinder | None


class PictureTopics(TopicSink):
    """Publishes `~/<camera>/overlay` and, for models with segmentation, `~/<camera>/segmentation/compressed`.

    The network thread only leaves a request. A newer frame of a camera replaces one whose picture still waits.
    """

    name = "pictures"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._free_space = read_free_space_parameters(context.values.get, context.cameras)
        self._cameras = context.cameras
        self._finder = self._new_finder()
        self._overlays = {c: self.publisher(Image, f"~/{c}/overlay", _PICTURE_QOS) for c in context.cameras}
        self._pngs: dict[str, LifecyclePublisher[CompressedImage]] = {}
        self._make_png_topics()
        self._drawing: SideThread[_PictureRequest] = SideThread("overlay", context.cameras, self._draw, context.warn)
        self._packing: SideThread[_PictureRequest] = SideThread("PNG mask", context.cameras, self._pack, context.warn)

    def start(self) -> None:
        """Start both threads."""
        self._drawing.start()
        self._packing.start()

    def stop(self, timeout_s: float) -> None:
        """Drop the requests that wait and end the threads."""
        self._drawing.stop(timeout_s)
        self._packing.stop(timeout_s)

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Make pictures of the new model's frames with its names, colours and drivable classes."""
        super().change_model(contract, builder)
        self._finder = self._new_finder()
        self._make_png_topics()

    def publish(self, result: FrameResult) -> None:
        """Request the pictures that have a subscriber. Never waits."""
        camera, kinds = result.frame.camera, [(self._overlays, self._drawing)]
        if result.perception.class_map is not None:
            kinds.append((self._pngs, self._packing))
        for publishers, thread in kinds:
            if publishers[camera].get_subscription_count():
                request = _PictureRequest(result.frame, result.perception, self.contract, self.builder, self._finder)
                thread.offer(camera, request)

    def _new_finder(self) -> FreeSpaceFinder | None:
        # The sink of the free space says why there is none.
        return FreeSpaceFinder.if_possible(self._free_space, self.contract, lambda sentence: None)

    def _make_png_topics(self) -> None:
        if SEGMENTATION in self.contract.tasks and not self._pngs:
            # image_transport looks for the `compressed` transport of the mask under this name.
            topics = {c: f"~/{c}/segmentation/compressed" for c in self._cameras}
            self._pngs = {c: self.publisher(CompressedImage, topic, _PICTURE_QOS) for c, topic in topics.items()}

    def _draw(self, camera: str, request: _PictureRequest) -> None:
        perception = request.perception
        boundary = None if request.finder is None else request.finder.boundary(perception)
        picture_bgr = draw_overlay(request.frame.image_bgr, perception, request.contract, boundary)
        self._overlays[camera].publish(request.builder.overlay(perception, picture_bgr))

    def _pack(self, camera: str, request: _PictureRequest) -> None:
        self._pngs[camera].publish(request.builder.segmentation_png(request.perception))
