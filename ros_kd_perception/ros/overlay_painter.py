"""OverlayPainter: a side thread that draws overlays, so that nobody waits for them."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from ros_kd_perception.mailbox import Mailbox
from ros_kd_perception.message_builder import MessageBuilder
from ros_kd_perception.model_contract import ModelContract
from ros_kd_perception.overlay import draw_overlay
from ros_kd_perception.structures import Frame, Perception

_NICE = 10


class OverlayPainter:
    """Draws the newest perception of each camera and drops those that come while it is busy.

    Args:
        cameras: their names.
        contract: names and colours of the classes.
        builder: for the messages.
        publish: takes the camera and the finished message.
        warn: logs one sentence.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        contract: ModelContract,
        builder: MessageBuilder,
        publish: Callable[[str, Any], None],
        warn: Callable[[str], object],
    ) -> None:
        self._mailbox: Mailbox[tuple[Frame, Perception]] = Mailbox(cameras)
        self._contract = contract
        self._builder = builder
        self._publish = publish
        self._warn = warn
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to draw what is offered."""
        self._mailbox.open()
        self._thread = threading.Thread(target=self._run, name="overlay", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Forget what waits and end the thread."""
        self._mailbox.close()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def offer(self, frame: Frame, perception: Perception) -> None:
        """Leave a frame and what was seen in it; never waits."""
        self._mailbox.put(frame.camera, (frame, perception))

    def _run(self) -> None:
        if hasattr(os, "setpriority"):
            # On Linux the nice value belongs to the thread: pictures give way to perception.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (letter := self._mailbox.take()) is not None:
            frame, perception = letter.message
            try:
                picture = draw_overlay(frame.image_bgr, perception, self._contract)
                self._publish(letter.camera, self._builder.overlay(perception, picture))
            except Exception:
                self._mailbox.dropped(letter.camera, "failed")
                self._warn(f"failed to draw an overlay of {letter.camera}: {traceback.format_exc()}")
            else:
                self._mailbox.published(letter.camera)
