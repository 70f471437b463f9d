"""PictureTopics: overlays, packed and coloured masks, made only for subscribers and in side threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from rclpy.lifecycle import LifecyclePublisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from ros_kd_perception.drawing.overlay import color_mask, draw_overlay
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.free_space.parameters import read_free_space_parameters
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import SEGMENTATION, ModelContract
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.scheduling.side_thread import SideThread
from ros_kd_perception.structures import Frame, Perception

_PICTURE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# By camera. In quotes, because rclpy of Humble has no type arguments at run time.
_Publishers: TypeAlias = "dict[str, LifecyclePublisher[Any]]"


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
    """Publishes overlays and, for models with segmentation, packed and coloured masks of each camera.

    | topic below `~/<camera>/` | made in the thread |
    |---|---|
    | `overlay`, `overlay/compressed` (JPEG) | overlay, drawn once for both |
    | `segmentation/compressed` (PNG) | PNG mask |
    | `segmentation/color` | colour mask |

    The network thread only leaves a request. A newer frame of a camera replaces one whose picture still waits.
    """

    name = "pictures"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._free_space = read_free_space_parameters(context.values.get, context.cameras)
        self._cameras = context.cameras
        self._finder = self._new_finder()
        self._overlays = self._topics(Image, "overlay")
        # image_transport looks for the `compressed` transport of a topic under this name.
        self._jpegs = self._topics(CompressedImage, "overlay/compressed")
        self._pngs: _Publishers = {}
        self._colors: _Publishers = {}
        self._make_mask_topics()
        self._drawing: SideThread[_PictureRequest] = SideThread("overlay", context.cameras, self._draw, context.warn)
        self._packing: SideThread[_PictureRequest] = SideThread("PNG mask", context.cameras, self._pack, context.warn)
        self._painting: SideThread[_PictureRequest] = SideThread(
            "colour mask", context.cameras, self._paint, context.warn
        )
        self._threads = (self._drawing, self._packing, self._painting)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Drop the requests that wait and end the threads."""
        for thread in self._threads:
            thread.stop(timeout_s)

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Make pictures of the new model's frames with its names, colours and drivable classes."""
        super().change_model(contract, builder)
        self._finder = self._new_finder()
        self._make_mask_topics()

    def publish(self, result: FrameResult) -> None:
        """Request the pictures that have a subscriber. Never waits."""
        camera = result.frame.camera
        kinds: list[tuple[tuple[_Publishers, ...], SideThread[_PictureRequest]]]
        kinds = [((self._overlays, self._jpegs), self._drawing)]
        if result.perception.class_map is not None:
            kinds += [((self._pngs,), self._packing), ((self._colors,), self._painting)]
        for topics, thread in kinds:
            if any(publishers[camera].get_subscription_count() for publishers in topics):
                request = _PictureRequest(result.frame, result.perception, self.contract, self.builder, self._finder)
                thread.offer(camera, request)

    def _new_finder(self) -> FreeSpaceFinder | None:
        # The sink of the free space says why there is none.
        return FreeSpaceFinder.if_possible(self._free_space, self.contract, lambda sentence: None)

    def _make_mask_topics(self) -> None:
        if SEGMENTATION in self.contract.tasks and not self._pngs:
            self._pngs = self._topics(CompressedImage, "segmentation/compressed")
            self._colors = self._topics(Image, "segmentation/color")

    def _topics(self, message_type: type[Any], name: str) -> _Publishers:
        return {c: self.publisher(message_type, f"~/{c}/{name}", _PICTURE_QOS) for c in self._cameras}

    def _draw(self, camera: str, request: _PictureRequest) -> None:
        perception, builder = request.perception, request.builder
        boundary = None if request.finder is None else request.finder.boundary(perception)
        picture_bgr = draw_overlay(request.frame.image_bgr, perception, request.contract, boundary)
        if self._overlays[camera].get_subscription_count():
            self._overlays[camera].publish(builder.picture(perception, picture_bgr))
        if self._jpegs[camera].get_subscription_count():
            self._jpegs[camera].publish(builder.picture_jpeg(perception, picture_bgr))

    def _pack(self, camera: str, request: _PictureRequest) -> None:
        self._pngs[camera].publish(request.builder.segmentation_png(request.perception))

    def _paint(self, camera: str, request: _PictureRequest) -> None:
        picture_bgr = color_mask(request.perception.require_class_map(), request.contract)
        self._colors[camera].publish(request.builder.picture(request.perception, picture_bgr))
