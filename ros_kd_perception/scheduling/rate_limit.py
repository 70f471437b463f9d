"""RateLimit: says when the next frame of a camera may be taken, if at most so many a second are wanted."""

from __future__ import annotations

_LOWEST_HZ = 1e-4  # a consumer that sleeps for years overflows its timer
_AT_ONCE_NS = -(1 << 63)  # before any time of the steady clock


class RateLimit:
    """A schedule of due times. Not safe for several threads; the mailbox guards it.

    Due times are a period apart, however late each frame is taken, so the rate does not drift: a limit of 10 Hz makes
    10 Hz of a camera of 30 Hz. A minimum distance between frames would make 7.5 Hz of it whenever its third frame comes
    a little early. Due times that passed without a frame are not made up for: the next frame starts a new schedule if
    the time of another one has passed.

    Attributes:
        due_ns: Steady clock from which on the next frame may be taken.
        taken_for_ns: Due time of the frame that was taken last.
        is_kept: Whether that frame was taken at its due time, and not a period or more later. False without a limit.
        max_rate_hz: Frames a second; 0 for no limit.
    """

    def __init__(self) -> None:
        self.due_ns = _AT_ONCE_NS
        self.taken_for_ns = _AT_ONCE_NS
        self.is_kept = False
        self.max_rate_hz = 0.0
        self._period_ns = 0

    def change(self, max_rate_hz: float) -> None:
        """Set another limit. The next frame is due at once and starts a new schedule."""
        self.max_rate_hz = max_rate_hz
        self._period_ns = int(1e9 / max(max_rate_hz, _LOWEST_HZ)) if max_rate_hz else 0
        self.due_ns = self.taken_for_ns = _AT_ONCE_NS
        self.is_kept = False

    def is_due(self, now_ns: int) -> bool:
        """Return whether a frame may be taken."""
        return now_ns >= self.due_ns

    def take(self, now_ns: int) -> None:
        """Note that a frame that was due is taken."""
        if self._period_ns:
            self.taken_for_ns = self.due_ns
            self.is_kept = now_ns - self.due_ns < self._period_ns
            self.due_ns = (self.due_ns if self.is_kept else now_ns) + self._period_ns

    def give_back(self) -> None:
        """Make the next frame due in place of the last one, which is not used."""
        self.due_ns = self.taken_for_ns
