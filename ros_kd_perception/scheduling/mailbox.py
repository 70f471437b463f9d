"""Mailbox: holds the newest message of each camera until its turn, and counts what becomes of every message.

Subscription callbacks put messages in, consumers take them out. For each camera and at any moment:
`received == published + sum(dropped) + waiting + in_progress`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ros_kd_perception.scheduling.turns import Turns
from ros_kd_perception.structures import DROP_REASONS, FrameCounts

MessageT = TypeVar("MessageT")


@dataclass(frozen=True)
class QueuedMessage(Generic[MessageT]):
    """A message from the mailbox.

    Attributes:
        camera: Name of its camera.
        message: The message as it was put in.
        arrival_ns: Steady clock when it was put in.
    """

    camera: str
    message: MessageT
    arrival_ns: int


@dataclass
class _Slot(Generic[MessageT]):
    queued: QueuedMessage[MessageT] | None = None
    enabled: bool = True
    received: int = 0
    published: int = 0
    in_progress: int = 0
    latest_arrival_ns: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


class Mailbox(Generic[MessageT]):
    """Holds one message for each camera and gives the cameras fair turns.

    Among cameras of equal weight, the one that was served longest ago comes first. While messages of all cameras wait,
    a camera of weight 2 gets twice the turns of a camera of weight 1. A camera without a message passes its turn on and
    does not save it up. A camera with a limit on its rate takes part when its next frame is due, with the message that
    is the newest then.

    Safe for any number of threads. A new mailbox is closed: it drops messages until `open` is called.

    Attributes:
        max_age_ms: Messages that waited longer are dropped when their turn comes; 0 for no limit. May be changed.
        lock: Reentrant lock that guards the whole mailbox.
        arrived: Condition on `lock`, notified when a message starts to wait and when the mailbox is closed.
        on_arrival: Callback for consumers that do not block in `take`, called under `lock` when a message starts to
            wait. Returns True if it woke an idle consumer.

    Args:
        cameras: Names of the cameras.
        max_age_ms: The first value of the attribute.
        clock_ns: Returns the steady clock, nanoseconds.
        weights: Positive weights by camera; 1 for cameras that are not in it.
        renewed: Whether a message stands for the newest one of its camera when it is taken, as with messages that stay
            in the middleware until then. Its age is then not known before, and the consumer must check it.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        max_age_ms: float = 0.0,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        weights: Mapping[str, float] | None = None,
        *,
        renewed: bool = False,
    ) -> None:
        self.max_age_ms = max_age_ms
        self._renewed = renewed
        self._clock_ns = clock_ns
        self._slots: dict[str, _Slot[MessageT]] = {camera: _Slot() for camera in cameras}
        self._turns = Turns(cameras)
        self._open = False
        self.lock = threading.RLock()
        self.arrived = threading.Condition(self.lock)
        self.on_arrival: Callable[[], bool] | None = None
        for camera, weight in (weights or {}).items():
            self.set_weight(camera, weight)

    def set_weight(self, camera: str, weight: float) -> None:
        """Change how many turns a camera gets in relation to the others.

        Raises:
            ValueError: The weight is not positive.
        """
        with self.lock:
            self._turns.set_weight(camera, weight)

    def set_max_rate(self, camera: str, max_rate_hz: float) -> None:
        """Change how many messages of a camera are taken a second, at most; 0 for no limit.

        Its next message is due at once. Messages that are left out for the limit are dropped as `over_rate`.
        """
        with self.lock:
            if max_rate_hz != self._turns.limit(camera).max_rate_hz:
                self._turns.limit(camera).change(max_rate_hz)
                if self._slots[camera].queued is not None:
                    self._announce()

    def due_in_s(self, leave: Container[str] = ()) -> float | None:
        """Return in how many seconds the next camera that is not due will be due. None if all of them are due.

        A consumer must not sleep for longer, because nothing wakes it at that moment. Whether a message waits does not
        matter: one may arrive until then.

        Args:
            leave: Cameras to skip.
        """
        with self.lock:
            return self._turns.due_in_s(self._clock_ns(), leave)

    def set_enabled(self, camera: str, enabled: bool) -> None:
        """Keep the messages of a camera, or drop the waiting one and new ones as `inactive`."""
        with self.lock:
            slot = self._slots[camera]
            slot.enabled = enabled
            if not enabled:
                _drop_waiting(slot, "inactive")

    def is_enabled(self, camera: str) -> bool:
        """Return whether messages of a camera are kept while the mailbox is open."""
        with self.lock:
            return self._slots[camera].enabled

    def open(self) -> None:
        """Keep messages from now on."""
        with self.lock:
            self._open = True

    def close(self) -> None:
        """Drop all waiting messages as `inactive`, and new ones until the next `open`. Wakes the thread in `take`."""
        with self.lock:
            self._open = False
            for slot in self._slots.values():
                _drop_waiting(slot, "inactive")
            self.arrived.notify_all()

    def put(self, camera: str, message: MessageT) -> bool:
        """Put a message in. It replaces a waiting message of its camera. Blocks only for the lock.

        Returns:
            True if `on_arrival` woke an idle consumer.

        Raises:
            KeyError: The mailbox was not made for this camera.
        """
        arrival_ns = self._clock_ns()
        with self.lock:
            slot = self._slots[camera]
            slot.received += 1
            slot.latest_arrival_ns = arrival_ns
            if not (self._open and slot.enabled):
                _count(slot, "inactive")
                return False
            if slot.queued is not None:
                _count(slot, "replaced" if self._turns.limit(camera).is_due(arrival_ns) else "over_rate")
            slot.queued = QueuedMessage(camera, message, arrival_ns)
            return self._announce()

    def count_missed(self, camera: str, count: int, reason: str = "lost", arrival_ns: int = 0) -> None:
        """Count messages that were sent but never put in, as received and dropped.

        Those between two messages that were taken at their due times count as `over_rate`, whatever became of them:
        they would have been left out all the same.

        Args:
            camera: Name of their camera.
            count: Number of messages.
            reason: `lost`, or `replaced` if a newer one replaced them in the middleware.
            arrival_ns: Steady clock when the message arrived that showed them missing.
        """
        with self.lock:
            slot = self._slots[camera]
            slot.received += count
            slot.latest_arrival_ns = max(slot.latest_arrival_ns, arrival_ns)
            if count:
                _count(slot, "over_rate" if self._turns.limit(camera).is_kept else reason, count)

    def latest_arrival_ns(self, camera: str) -> int:
        """Return the steady clock at the latest arrival of a camera's messages. 0 before the first."""
        return self._slots[camera].latest_arrival_ns

    def drop_waiting(self, camera: str, reason: str) -> None:
        """Drop the waiting message of a camera, if there is one."""
        with self.lock:
            _drop_waiting(self._slots[camera], reason)

    def take(self, timeout_s: float | None = None) -> QueuedMessage[MessageT] | None:
        """Wait for the next message in turn. Return None after `timeout_s` seconds, or at once if closed.

        The caller must call `published` or `dropped` for the message afterwards.
        """
        with self.lock:
            deadline_ns = None if timeout_s is None else time.monotonic_ns() + int(timeout_s * 1e9)
            while self._open:
                queued = self.take_next()
                if queued is not None:
                    return queued
                remaining_s = None if deadline_ns is None else (deadline_ns - time.monotonic_ns()) / 1e9
                if remaining_s is not None and remaining_s <= 0:
                    return None
                due_s = self.due_in_s()
                self.arrived.wait(min((s for s in (remaining_s, due_s) if s is not None), default=None))
            return None

    def take_next(
        self, leave: Container[str] = (), only: Callable[[MessageT], bool] | None = None
    ) -> QueuedMessage[MessageT] | None:
        """Take the next message in turn, or return None if no message waits.

        Args:
            leave: Cameras to skip.
            only: Returns True for a message that may be taken. None allows all messages.
        """
        with self.lock:
            now_ns = self._clock_ns()
            for camera in self._turns.in_order():
                slot, limit = self._slots[camera], self._turns.limit(camera)
                if camera in leave or not self._may_be_taken(camera, now_ns, only) or slot.queued is None:
                    continue
                queued, slot.queued = slot.queued, None
                if not self._renewed and self.is_too_old(queued, now_ns):
                    _count(slot, "over_rate" if self.is_too_old(queued, limit.due_ns) else "too_old")
                    continue
                slot.in_progress += 1
                self._turns.take(camera, now_ns)
                return queued
            return None

    def waits(self, leave: Container[str] = (), only: Callable[[MessageT], bool] | None = None) -> bool:
        """Return whether a message waits that `take_next` would consider."""
        with self.lock:
            now_ns = self._clock_ns()
            return any(camera not in leave and self._may_be_taken(camera, now_ns, only) for camera in self._slots)

    def is_too_old(self, queued: QueuedMessage[MessageT], now_ns: int) -> bool:
        """Return whether a message is older than `max_age_ms` at a time of the steady clock."""
        return self.max_age_ms > 0 and now_ns - queued.arrival_ns > self.max_age_ms * 1e6

    def give_up_for_newer(self, camera: str) -> bool:
        """Drop the message in progress as `replaced` if a newer one of its camera waits, and give its turn back.

        Returns:
            True if a newer message waits.
        """
        with self.lock:
            slot = self._slots[camera]
            _check_in_progress(camera, slot)
            if slot.queued is None:
                return False
            slot.in_progress -= 1
            _count(slot, "replaced")
            self._turns.give_back(camera)
            return True

    def published(self, camera: str) -> None:
        """Count a message that was taken as published."""
        with self.lock:
            slot = self._slots[camera]
            _check_in_progress(camera, slot)
            slot.in_progress -= 1
            slot.published += 1

    def dropped(self, camera: str, reason: str) -> None:
        """Count a message that was taken as dropped, for one of `DROP_REASONS`."""
        if reason not in DROP_REASONS:
            raise ValueError(f"expected a drop reason out of {DROP_REASONS}, got {reason!r}")
        with self.lock:
            slot = self._slots[camera]
            _check_in_progress(camera, slot)
            slot.in_progress -= 1
            _count(slot, reason)

    def drop_too_old(self, queued: QueuedMessage[MessageT]) -> None:
        """Count a message that was taken as dropped because of its age.

        It is `over_rate` if it was too old when its camera became due. The camera is then due for its next message.
        """
        with self.lock:
            limit = self._turns.limit(queued.camera)
            is_over_rate = self.is_too_old(queued, limit.taken_for_ns)
            if is_over_rate:
                limit.give_back()
            self.dropped(queued.camera, "over_rate" if is_over_rate else "too_old")

    def counts(self) -> dict[str, FrameCounts]:
        """Return a consistent snapshot by camera, in the order in which the cameras were given."""
        with self.lock:
            return {
                camera: FrameCounts(
                    slot.received,
                    slot.published,
                    dict(slot.dropped),
                    int(slot.queued is not None),
                    slot.in_progress,
                    slot.latest_arrival_ns,
                )
                for camera, slot in self._slots.items()
            }

    def _may_be_taken(self, camera: str, now_ns: int, only: Callable[[MessageT], bool] | None) -> bool:
        queued = self._slots[camera].queued
        is_waiting = queued is not None and (only is None or only(queued.message))
        return is_waiting and self._turns.limit(camera).is_due(now_ns)

    def _announce(self) -> bool:
        self.arrived.notify_all()
        return self.on_arrival is not None and self.on_arrival()


def _drop_waiting(slot: _Slot[MessageT], reason: str) -> None:
    if slot.queued is not None:
        slot.queued = None
        _count(slot, reason)


def _count(slot: _Slot[MessageT], reason: str, count: int = 1) -> None:
    slot.dropped[reason] = slot.dropped.get(reason, 0) + count


def _check_in_progress(camera: str, slot: _Slot[MessageT]) -> None:
    if slot.in_progress == 0:
        raise ValueError(f"expected a message of {camera} in progress, there is none; take one first")
