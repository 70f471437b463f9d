"""WarningThrottle: logs a frequent warning only every few seconds, with the number of omitted ones."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable

WARNING_PERIOD_S = 5.0
"""Shortest time between two warnings of one kind."""


class WarningThrottle:
    """Passes on one warning of each kind in each period and counts the others. Safe for any number of threads.

    Args:
        warn: Logs one sentence.
        period_s: Shortest time between two warnings of one kind, in seconds.
        clock_s: Returns the time of a steady clock in seconds.
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
        self._logged: dict[Hashable, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def warn(self, kind: Hashable, text: str) -> None:
        """Log the text, unless a warning of this kind was logged less than a period ago."""
        now_s = self._clock_s()
        with self._lock:
            last_s, omitted = self._logged.get(kind, (now_s - self._period_s, 0))
            if now_s - last_s < self._period_s:
                self._logged[kind] = (last_s, omitted + 1)
                return
            self._logged[kind] = (now_s, 0)
        more = f" ({omitted} more since the last such warning)" if omitted else ""
        try:
            self._warn(f"{text}{more}")
        except Exception:
            # A failing log must not end the thread that warns about a lost frame.
            print(f"{text}{more}\n(not logged: {traceback.format_exc(limit=-1)})", file=sys.stderr)
