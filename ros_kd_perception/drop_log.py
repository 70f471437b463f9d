"""DropLog: every frame that gives no result is accounted for, and the log tells why now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ros_kd_perception.health import CameraHealth
from ros_kd_perception.mailbox import Mailbox

WARNING_PERIOD_S = 5.0
"""Warnings of one camera and one reason are at least so far apart."""


class DropLog:
    """Accounts for frames that were taken and cannot be published; safe for any number of threads.

    Args:
        mailbox: where they were taken.
        health: by camera; told the sentence.
        warn: logs one sentence.
    """

    def __init__(
        self, mailbox: Mailbox[Any], health: Mapping[str, CameraHealth], warn: Callable[[str], object]
    ) -> None:
        self._mailbox = mailbox
        self._health = health
        self._warn = warn
        self._warned: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def drop(self, camera: str, reason: str, sentence: str) -> None:
        """Drop a frame for one of `DROP_REASONS`; `sentence` says what was expected and what came."""
        self._mailbox.dropped(camera, reason)
        self._health[camera].record_refusal(sentence)
        with self._lock:
            now_s = time.monotonic()
            last_s, unsaid = self._warned.get((camera, reason), (-WARNING_PERIOD_S, 0))
            if now_s - last_s < WARNING_PERIOD_S:
                self._warned[camera, reason] = (last_s, unsaid + 1)
                return
            self._warned[camera, reason] = (now_s, 0)
        more = f" ({unsaid} more since the last such warning)" if unsaid else ""
        self._warn(f"dropped a frame of {camera}, {reason}: {sentence}{more}")
