"""Pictures: what is made of a perception only while somebody looks, each kind in a side thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.scheduling.side_thread import SideThread
from ros_kd_perception.structures import Frame, Perception

Publish = Callable[[str, Any], None]
"""Takes the camera and the finished message."""

Look = tuple[ModelContract, MessageBuilder]
"""Names and colours of the classes of the model that saw it, and the builder for its messages."""


class Pictures:
    """Draws overlays and packs masks as PNG; neither waits for the other, and nobody waits for either.

    Args:
        cameras: their names.
        contract: names and colours of the classes.
        builder: for the messages.
        finder: of the free space that overlays show.
        publish_overlay: of sensor_msgs/Image.
        publish_png: of sensor_msgs/CompressedImage.
        warn: logs one sentence.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        contract: ModelContract,
        builder: MessageBuilder,
        finder: FreeSpaceFinder,
        publish_overlay: Publish,
        publish_png: Publish,
        warn: Callable[[str], object],
    ) -> None:
        self._look = (contract, builder)

        def draw(camera: str, seen: tuple[Frame, Perception, Look]) -> None:
            frame, perception, (contract, builder) = seen
            picture = draw_overlay(frame.image_bgr, perception, contract, finder.boundary(perception))
            publish_overlay(camera, builder.overlay(perception, picture))

        def pack(camera: str, seen: tuple[Perception, Look]) -> None:
            perception, (_, builder) = seen
            publish_png(camera, builder.segmentation_png(perception))

        self._overlays = SideThread("overlay", cameras, draw, warn)
        self._masks = SideThread("PNG mask", cameras, pack, warn)

    def change_over(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """What is offered from now on was seen by another model; for the thread that offers."""
        self._look = (contract, builder)

    def start(self) -> None:
        """Begin to make what is offered."""
        self._overlays.start()
        self._masks.start()

    def stop(self, timeout_s: float) -> None:
        """Forget what waits and end the threads."""
        self._overlays.stop(timeout_s)
        self._masks.stop(timeout_s)

    def offer_overlay(self, frame: Frame, perception: Perception) -> None:
        """Leave a frame and what was seen in it; never waits."""
        self._overlays.offer(frame.camera, (frame, perception, self._look))

    def offer_png(self, perception: Perception) -> None:
        """Leave a perception whose mask is to be packed; never waits."""
        self._masks.offer(perception.camera, (perception, self._look))
