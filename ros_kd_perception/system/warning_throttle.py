"""WarningThrottle: what happens thirty times a second is logged every few seconds, with a count."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable

WARNING_PERIOD_S = 5.0
"""Warnings of one kind are at least so far apart."""


class WarningThrottle:
    """Passes on one warning of each kind and counts the others until the next; safe for any number of threads.

    Args:
        warn: logs one sentence.
        period_s: between two warnings of one kind.
        clock_s: steady clock, seconds.
    """

    def __init__(
        self,
        warn: Callable[[str], object],
        period_s: float = WARNING_PERIOD_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warn = warn
        self._period_s = period_s
        self._clock_s = clock_s
        self._said: dict[Hashable, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def warn(self, kind: Hashable, text: str) -> None:
        """Log the text, unless one of its kind was logged just now."""
        now_s = self._clock_s()
        with self._lock:
            last_s, unsaid = self._said.get(kind, (now_s - self._period_s, 0))
            if now_s - last_s < self._period_s:
                self._said[kind] = (last_s, unsaid + 1)
                return
            self._said[kind] = (now_s, 0)
        more = f" ({unsaid} more since the last such warning)" if unsaid else ""
        try:
            self._warn(f"{text}{more}")
        except Exception:
            # A log that cannot be written must not end the thread that tells of a lost frame.
            print(f"{text}{more}\n(not logged: {traceback.format_exc(limit=-1)})", file=sys.stderr)
