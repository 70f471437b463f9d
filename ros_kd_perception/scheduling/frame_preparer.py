"""FramePreparer: decodes and letterboxes the next frame while the network runs on the one before.

Preparation starts just in time for the expected end of the current run, with the message that is newest at that moment.
A frame that is prepared earlier would be older by a whole run when its turn comes, although newer ones have arrived.

An idle network thread prepares small images that need no conversion itself. Letterboxing them takes a third of a
millisecond, and handing them from thread to thread may take as long (`benchmarks/preparation.py`). The pool prepares
everything that takes longer: JPEG and PNG, other encodings, larger images.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ros_kd_perception.scheduling.idle_wait import IdleWait
from ros_kd_perception.scheduling.mailbox import Mailbox, QueuedMessage
from ros_kd_perception.scheduling.preparation import Preparation, ReadyFrame

_REMEMBERED = 8  # number of past runs and preparations from which the next durations are predicted
_MARGIN_NS = 1_000_000
_LEAD = 1.5  # factor on the longest remembered preparation


class FramePreparer:
    """A small pool of threads between the mailbox and the thread that runs the network.

    At most `ahead` frames, each of a different camera, are ready or in preparation. They come out in the order in which
    they became ready. If the network runs longer than expected, a ready frame that has waited for longer than a
    preparation takes is replaced by a newer frame of its camera.

    Args:
        mailbox: Holds the messages that wait, and counts what becomes of each. It is opened and closed here.
        preparation: Prepares a message.
        threads: Number of threads.
        ahead: Largest number of frames that are ready or in preparation.
        expected_run_ms: Expected duration of the first run of the network. Later runs are predicted from measured ones.
        idle_wait: Where the network's thread waits while it has no frame.
    """

    def __init__(
        self,
        mailbox: Mailbox[Any],
        preparation: Preparation,
        threads: int = 1,
        ahead: int = 1,
        expected_run_ms: float = 0.0,
        idle_wait: IdleWait | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._idle_wait = idle_wait or IdleWait()
        self._preparation = preparation
        self._ahead = ahead
        self._due = threading.Condition(mailbox.lock)  # the pool waits here
        self._idle = False  # True while the network's thread waits for a frame
        self._ready: deque[ReadyFrame] = deque()
        self._held: set[str] = set()  # cameras with a frame that is ready or in preparation
        self._current: list[ReadyFrame] = []
        self._busy_since_ns = 0
        self._runs_ns: deque[int] = deque([int(expected_run_ms * 1e6)], maxlen=_REMEMBERED)
        self._preparations_ns: deque[int] = deque(maxlen=_REMEMBERED)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"preparation {number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Open the mailbox and start the threads."""
        self._mailbox.on_arrival = self._see_arrival
        self._mailbox.open()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Drop waiting and ready frames as `inactive` and wake all threads. It cannot be started again."""
        with self._mailbox.lock:
            self._closed = True
            self._mailbox.close()
            while self._ready:
                self._drop_ready(self._ready.popleft(), "inactive")
            self._due.notify_all()
            self._idle_wait.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads to end after `close`. Return False if one does not end in time."""
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def alive(self) -> bool:
        """Whether every thread of the pool is alive."""
        return all(thread.is_alive() for thread in self._threads)

    def take(self) -> ReadyFrame | None:
        """Wait for the next frame. Return None once closed.

        Only the network's thread may call this. The buffers of the frames that it took before are used again.
        """
        while True:
            found = self._wait_for_frame()
            ready = self._preparation.prepare(found) if isinstance(found, QueuedMessage) else found
            self._idle_wait.leave()
            if found is None or ready is not None:
                self._current = [] if ready is None else [ready]
                return ready

    def take_batch(self, limit: int) -> list[ReadyFrame]:
        """Take up to `limit` ready frames of other cameras, for one batch with the frame just taken. Never waits."""
        with self._mailbox.lock:
            more: list[ReadyFrame] = []
            while len(more) < limit and (ready := self._ready_in_time()) is not None:
                more.append(ready)
            self._current += more
            self._wake_pool()  # it may have looked for messages while these cameras were held
            return more

    def _run(self) -> None:
        while (queued := self._next_message()) is not None:
            self._preparation.begin(queued, partial(self._add, queued.camera))

    def _add(self, camera: str, ready: ReadyFrame | None) -> None:
        with self._mailbox.lock:
            if ready is None:
                self._held.discard(camera)
                self._wake_network()  # another message of its camera may wait
                self._wake_pool()
            elif self._closed:
                self._drop_ready(ready, "inactive")
            else:
                self._preparations_ns.append(int(ready.preparation_ms * 1e6))
                self._ready.append(ready)
                self._wake_network()

    def _next_message(self) -> QueuedMessage[Any] | None:
        with self._mailbox.lock:
            while not self._closed:
                queued, wait_s = self._due_message()
                if queued is not None:
                    return queued
                if wait_s is None or wait_s > 0:
                    self._due.wait(wait_s)
            return None

    def _due_message(self) -> tuple[QueuedMessage[Any] | None, float | None]:
        """Return the message to prepare now, or None and after how many seconds there may be one. None: not known."""
        if len(self._held) >= self._ahead:
            return None, None
        only = self._is_slow if self._idle else None
        if not self._mailbox.waits(self._held, only):
            return None, self._mailbox.due_in_s(self._held)
        if (wait_s := self._until_due_s()) > 0:
            return None, wait_s
        queued = self._mailbox.take_next(self._held, only)
        if queued is None:  # too old
            return None, 0.0
        self._held.add(queued.camera)
        return queued, None

    def _until_due_s(self) -> float:
        if not self._busy_since_ns:
            return 0.0
        # Assume the shortest run and the longest preparation: a frame that is a little older costs less than a network
        # that waits.
        expected_end_ns = self._busy_since_ns + min(self._runs_ns)
        return (expected_end_ns - self._lead_ns() - time.monotonic_ns()) / 1e9

    def _lead_ns(self) -> int:
        rounds = -(-self._ahead // len(self._threads))
        return int(max(self._preparations_ns, default=0) * _LEAD * rounds) + _MARGIN_NS

    def _is_in_time(self, ready: ReadyFrame) -> bool:
        now_ns, camera = time.monotonic_ns(), ready.queued.camera
        if not self._mailbox.is_enabled(camera):
            self._mailbox.dropped(camera, "inactive")
            return False
        overrun = now_ns - ready.ready_ns > 2 * self._lead_ns()
        # This check comes first because the camera keeps its turn.
        if overrun and self._mailbox.give_up_for_newer(camera):
            return False
        if self._mailbox.is_too_old(ready.queued, now_ns):
            self._mailbox.dropped(camera, "too_old")
            return False
        return True

    def _wait_for_frame(self) -> ReadyFrame | QueuedMessage[Any] | None:
        with self._mailbox.lock:
            self._finish_run()
            while not self._closed:
                found = self._ready_in_time() or self._mailbox.take_next(self._held, self._preparation.is_quick)
                if found is not None:
                    self._busy_since_ns = time.monotonic_ns()
                    self._wake_pool()
                    return found
                self._idle = True
                self._wake_pool(self._is_slow)
                self._sleep(self._mailbox.due_in_s(self._held))
                self._idle = False
            return None

    def _ready_in_time(self) -> ReadyFrame | None:
        while self._ready:
            ready = self._ready.popleft()
            self._held.discard(ready.queued.camera)
            if self._is_in_time(ready):
                return ready
            self._preparation.give_back(ready)
        return None

    def _finish_run(self) -> None:
        if self._current:
            self._runs_ns.append(time.monotonic_ns() - self._busy_since_ns)
            for ready in self._current:
                self._preparation.give_back(ready)
        self._current, self._busy_since_ns = [], 0

    def _see_arrival(self) -> bool:
        # Wake only a thread that can do something: each thread that wakes takes the interpreter for a moment.
        if self._idle and self._mailbox.waits(self._held, self._preparation.is_quick):
            self._idle_wait.wake()
            return True
        if self._preparation.never_waits:
            # The thread that brought the message asks for it. Waking another one would take as long as asking.
            queued, wait_s = self._due_message()
            if queued is not None:
                self._preparation.begin(queued, partial(self._add, queued.camera))
                return False
            if wait_s is None:
                return False
        self._due.notify_all()
        return False

    def _sleep(self, timeout_s: float | None) -> None:
        # Without the lock: the thread that waits may note messages itself. A wake-up until then ends the wait at once.
        self._mailbox.lock.release()
        try:
            self._idle_wait.wait(timeout_s)
        finally:
            self._mailbox.lock.acquire()

    def _wake_network(self) -> None:
        if self._idle:
            self._idle_wait.wake()

    def _wake_pool(self, only: Callable[[Any], bool] | None = None) -> None:
        # Also for a camera that is not due yet: the pool may have looked while it was held, and would sleep through.
        if self._mailbox.waits(self._held, only) or self._mailbox.due_in_s(self._held) is not None:
            self._due.notify_all()

    def _is_slow(self, message: Any) -> bool:
        return not self._preparation.is_quick(message)

    def _drop_ready(self, ready: ReadyFrame, reason: str) -> None:
        self._mailbox.dropped(ready.queued.camera, reason)
        self._preparation.give_back(ready)
