"""IdleWait: where the thread that runs the network waits while it has no frame."""

from __future__ import annotations

import threading


class IdleWait:
    """Waits for a wake-up. A wake-up that comes before the wait ends that wait at once.

    One thread waits. Callers of `wake` must not call it at the same time; `FramePreparer` holds the mailbox's lock.
    """

    def __init__(self) -> None:
        # A bare lock, because each primitive of `threading` above it takes several times as long.
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wait(self, timeout_s: float | None) -> None:
        """Wait until `wake` was called or the time is over. None waits for as long as it takes."""
        self._asleep.acquire(timeout=-1 if timeout_s is None else max(timeout_s, 0.0))

    def wake(self) -> None:
        """End the wait, or the next one."""
        if self._asleep.locked():
            self._asleep.release()

    def forget(self) -> bool:
        """Take back a wake-up that no wait has seen. Return whether there was one."""
        return self._asleep.acquire(blocking=False)

    def leave(self) -> None:
        """Note that the thread has a frame and will not wait for a while."""
