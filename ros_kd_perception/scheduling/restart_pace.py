"""RestartPace: how soon processes that end are replaced."""

from __future__ import annotations

from collections import deque

MANY_ENDS, WINDOW_S, PAUSE_S = 5, 30.0, 5.0
SOON_S = 2.0
"""A process that works for longer does not end because of its work."""


class RestartPace:
    """Remembers processes that ended soon after they had begun.

    A few are replaced at once. After many within a short time, each waits for a pause. A process that worked for a
    while before it ended is always replaced at once.

    Attributes:
        ended: Number of all ends.
    """

    def __init__(self) -> None:
        self.ended = 0
        self._soon_s: deque[float] = deque(maxlen=MANY_ENDS)

    def note_end(self, now_s: float, worked_s: float = 0.0) -> None:
        """Note that a process has ended.

        Args:
            now_s: Steady clock now.
            worked_s: How long it had worked before, seconds.
        """
        self.ended += 1
        if worked_s < SOON_S:
            self._soon_s.append(now_s)

    def note_failed_start(self, now_s: float) -> None:
        """Note that no process can be started. The next start waits for a pause."""
        self._soon_s.extend([now_s] * MANY_ENDS)

    def lately(self, now_s: float) -> int:
        """Return how many of them ended in the last half minute, at most `MANY_ENDS`."""
        return sum(now_s - end_s < WINDOW_S for end_s in self._soon_s)

    def must_wait(self, now_s: float) -> bool:
        """Return whether so many of them ended lately that the next start must wait."""
        return self.lately(now_s) >= MANY_ENDS and now_s - self._soon_s[-1] < PAUSE_S
