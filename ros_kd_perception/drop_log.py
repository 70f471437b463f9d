"""DropLog: every frame that gives no result is accounted for, and the log tells why now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ros_kd_perception.health.status import CameraHealth
from ros_kd_perception.mailbox import Mailbox
from ros_kd_perception.system.warning_throttle import WarningThrottle


class DropLog:
    """Accounts for frames that were taken and cannot be published; safe for any number of threads.

    Args:
        mailbox: where they were taken.
        health: by camera; told the sentence.
        warn: logs one sentence; of each camera and reason only now and then.
    """

    def __init__(
        self, mailbox: Mailbox[Any], health: Mapping[str, CameraHealth], warn: Callable[[str], object]
    ) -> None:
        self._mailbox = mailbox
        self._health = health
        self._throttle = WarningThrottle(warn)

    def drop(self, camera: str, reason: str, sentence: str) -> None:
        """Drop a frame for one of `DROP_REASONS`; `sentence` says what was expected and what came."""
        self._mailbox.dropped(camera, reason)
        if reason != "failed":
            self._health[camera].record_refusal(sentence)
        self._throttle.warn((camera, reason), f"dropped a frame of {camera}, {reason}: {sentence}")
