"""The thread that owns the network: one message at a time from the mailbox to the publishers."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ros_kd_perception.health import CameraHealth, FrameTimes, WorkerPulse
from ros_kd_perception.image_message import frame_from_message
from ros_kd_perception.mailbox import Mailbox
from ros_kd_perception.message_builder import MessageBuilder
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.stamp_age import StampAge
from ros_kd_perception.stamp_order import StampOrder
from ros_kd_perception.structures import BadFrame, Frame, Perception

WARNING_PERIOD_S = 5.0
"""Warnings of one camera and one reason are at least so far apart."""


class ResultTopics(Protocol):
    """Where the results of one camera go."""

    def publish(self, segmentation: Any, detections: Any) -> None:
        """Hand both messages to the middleware."""

    def offer_pictures(self, frame: Frame, perception: Perception) -> None:
        """Leave what overlays and PNG masks are made from, if anybody looks; never waits."""


class PerceptionWorker:
    """Runs `process_message` for every message in turn until it is stopped.

    Args:
        mailbox: where messages wait, and where each is accounted for.
        perceiver: owned by this thread while it runs.
        builder: for the messages.
        topics: by camera.
        health: by camera.
        stamp_age: the limit on header stamps.
        warn: logs one sentence.
    """

    def __init__(
        self,
        mailbox: Mailbox[Any],
        perceiver: Perceiver,
        builder: MessageBuilder,
        topics: Mapping[str, ResultTopics],
        health: Mapping[str, CameraHealth],
        stamp_age: StampAge,
        warn: Callable[[str], object],
    ) -> None:
        self._mailbox = mailbox
        self._perceiver = perceiver
        self._builder = builder
        self._topics = topics
        self._health = health
        self._stamp_age = stamp_age
        self._stamps = StampOrder()
        self._warn = warn
        self._warned: dict[tuple[str, str], tuple[float, int]] = {}
        self._thread: threading.Thread | None = None
        self._busy_since_ns = 0

    def start(self) -> None:
        """Open the mailbox and begin; stamps of an earlier activation do not count."""
        self._stamps = StampOrder()
        self._mailbox.open()
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Close the mailbox and wait for the frame in progress; False if it is not done in time."""
        self._mailbox.close()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout_s)
            return not thread.is_alive()
        return True

    def pulse(self) -> WorkerPulse:
        """Whether the thread lives and gets on."""
        busy_since_ns = self._busy_since_ns
        busy_s = (time.monotonic_ns() - busy_since_ns) / 1e9 if busy_since_ns else 0.0
        return WorkerPulse(self._thread is not None and self._thread.is_alive(), busy_s)

    def process_message(self, camera: str, message: Any, arrival_ns: int) -> None:
        """Perceive one message that was taken from the mailbox and publish what was seen, or drop it for a reason.

        Args:
            camera: its name.
            message: sensor_msgs Image or CompressedImage.
            arrival_ns: steady clock when it came.
        """
        started_ns = self._busy_since_ns = time.monotonic_ns()
        try:
            frame = frame_from_message(camera, message)
            self._stamps.check(camera, frame.stamp_ns)
            stamp_age_ms = self._stamp_age.check(camera, frame.stamp_ns)
            perception = self._perceiver.perceive([frame])[0]
            segmentation = self._builder.segmentation(perception)
            detections = self._builder.detections(perception)
            handed_ns = time.monotonic_ns()
            topics = self._topics[camera]
            topics.publish(segmentation, detections)
        except BadFrame as error:
            self._mailbox.dropped(camera, error.reason)
            self._warn_now_and_then(camera, error.reason, str(error))
        except Exception:
            # Whatever the network, the driver or the middleware raised: this frame is lost, the next may do.
            self._mailbox.dropped(camera, "failed")
            self._warn_now_and_then(camera, "failed", traceback.format_exc())
        else:
            self._mailbox.published(camera)
            age_ms = None if stamp_age_ms is None else stamp_age_ms + (handed_ns - started_ns) / 1e6
            times = FrameTimes((handed_ns - started_ns) / 1e6, (handed_ns - arrival_ns) / 1e6, age_ms)
            self._health[camera].record(handed_ns, times)
            topics.offer_pictures(frame, perception)
        finally:
            self._busy_since_ns = 0

    def _run(self) -> None:
        while (letter := self._mailbox.take()) is not None:
            self.process_message(letter.camera, letter.message, letter.arrival_ns)

    def _warn_now_and_then(self, camera: str, reason: str, text: str) -> None:
        now_s = time.monotonic()
        last_s, unsaid = self._warned.get((camera, reason), (-WARNING_PERIOD_S, 0))
        if now_s - last_s < WARNING_PERIOD_S:
            self._warned[camera, reason] = (last_s, unsaid + 1)
            return
        self._warned[camera, reason] = (now_s, 0)
        more = f" ({unsaid} more since the last such warning)" if unsaid else ""
        self._warn(f"dropped a frame of {camera}, {reason}: {text}{more}")
