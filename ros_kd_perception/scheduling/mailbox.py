"""Mailbox: the newest message of each camera waits here for its turn; every message is accounted for.

Callbacks put, others take. For each camera and at any moment:
`received == published + sum(dropped) + waiting + in_progress`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ros_kd_perception.structures import DROP_REASONS, FrameCounts

MessageT = TypeVar("MessageT")


@dataclass(frozen=True)
class QueuedMessage(Generic[MessageT]):
    """A message out of the mailbox: `arrival_ns` is the steady clock when it came in."""

    camera: str
    message: MessageT
    arrival_ns: int


@dataclass
class _Slot(Generic[MessageT]):
    queued: QueuedMessage[MessageT] | None = None
    received: int = 0
    published: int = 0
    in_progress: int = 0
    latest_arrival_ns: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass
class _Line:
    """A camera's place in line: it may start again at `free_at` of virtual time, and was last served as number `last`.

    Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with a frame as the unit of service.
    """

    weight: float = 1.0
    free_at: float = 0.0
    last: int = 0
    free_at_before: float = 0.0
    last_before: int = 0


class Mailbox(Generic[MessageT]):
    """One slot a camera and fair turns: of equal weights, the camera that was served longest ago comes first.

    Where messages of all cameras wait, a camera of weight 2 has twice the turns of one of weight 1; a camera with
    nothing waiting leaves its turns to the others and saves none up.

    Safe for any number of threads. Starts closed; `open` lets messages wait.

    Attributes:
        max_age_ms: messages that waited longer are dropped when their turn comes, 0 for no limit; may be changed.
        lock: reentrant, guards all.
        arrived: on that lock, notified when a message comes to wait or the mailbox is closed.
        on_arrival: called under that lock when a message comes to wait, for a consumer that does not wait in `take`;
            returns whether it woke an idle one.

    Args:
        cameras: their names.
        max_age_ms: as the attribute says.
        clock_ns: the steady clock.
        weights: of cameras, positive; 1 unless given.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        max_age_ms: float = 0.0,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.max_age_ms = max_age_ms
        self._clock_ns = clock_ns
        self._slots: dict[str, _Slot[MessageT]] = {camera: _Slot() for camera in cameras}
        self._lines = {camera: _Line() for camera in cameras}
        self._virtual_time = 0.0
        self._served = 0
        self._open = False
        self.lock = threading.RLock()
        self.arrived = threading.Condition(self.lock)
        self.on_arrival: Callable[[], bool] | None = None
        for camera, weight in (weights or {}).items():
            self.set_weight(camera, weight)

    def set_weight(self, camera: str, weight: float) -> None:
        """Change how many turns a camera gets beside the others.

        Raises:
            ValueError: a weight that is not positive.
        """
        if not weight > 0:
            raise ValueError(f"expected the weight of {camera} to be positive, got {weight}")
        with self.lock:
            self._lines[camera].weight = weight

    def open(self) -> None:
        """Let messages wait from now on."""
        with self.lock:
            self._open = True

    def close(self) -> None:
        """Drop what waits as `inactive`, and whatever comes until the next `open`; wakes the taker."""
        with self.lock:
            self._open = False
            for slot in self._slots.values():
                if slot.queued is not None:
                    slot.queued = None
                    _count(slot, "inactive")
            self.arrived.notify_all()

    def put(self, camera: str, message: MessageT) -> bool:
        """Leave a message, replacing the one that waits; never blocks for longer than a lock.

        Returns:
            Whether `on_arrival` woke an idle consumer.

        Raises:
            KeyError: a camera that the mailbox was not made for.
        """
        arrival_ns = self._clock_ns()
        with self.lock:
            slot = self._slots[camera]
            slot.received += 1
            slot.latest_arrival_ns = arrival_ns
            if not self._open:
                _count(slot, "inactive")
                return False
            if slot.queued is not None:
                _count(slot, "replaced")
            slot.queued = QueuedMessage(camera, message, arrival_ns)
            self.arrived.notify_all()
            return self.on_arrival is not None and self.on_arrival()

    def count_lost(self, camera: str, count: int) -> None:
        """Account for messages that were sent and never came here: received and dropped as `lost`."""
        with self.lock:
            slot = self._slots[camera]
            slot.received += count
            slot.dropped["lost"] = slot.dropped.get("lost", 0) + count

    def take(self, timeout_s: float | None = None) -> QueuedMessage[MessageT] | None:
        """Wait for the next message in turn; None after `timeout_s` seconds, or at once when closed.

        The caller calls `published` or `dropped` for the message afterwards.
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
                self.arrived.wait(remaining_s)
            return None

    def take_next(
        self, leave: Container[str] = (), only: Callable[[MessageT], bool] | None = None
    ) -> QueuedMessage[MessageT] | None:
        """Take the next message in turn if one waits.

        Args:
            leave: cameras to leave alone.
            only: tells of a message whether it may be taken; None: any.
        """
        with self.lock:
            now_ns = self._clock_ns()
            for camera in sorted(self._slots, key=self._place):
                slot = self._slots[camera]
                if slot.queued is None or camera in leave or (only is not None and not only(slot.queued.message)):
                    continue
                queued, slot.queued = slot.queued, None
                if self.is_too_old(queued, now_ns):
                    _count(slot, "too_old")
                    continue
                slot.in_progress += 1
                self._serve(camera)
                return queued
            return None

    def waits(self, leave: Container[str] = (), only: Callable[[MessageT], bool] | None = None) -> bool:
        """Whether there is a message that `take_next` would look at."""
        with self.lock:
            return any(
                slot.queued is not None and camera not in leave and (only is None or only(slot.queued.message))
                for camera, slot in self._slots.items()
            )

    def is_too_old(self, queued: QueuedMessage[MessageT], now_ns: int) -> bool:
        """Whether a message is past `max_age_ms` at this moment of the steady clock."""
        return self.max_age_ms > 0 and now_ns - queued.arrival_ns > self.max_age_ms * 1e6

    def give_up_for_newer(self, camera: str) -> bool:
        """Drop a message that was taken as `replaced` and give its turn back, if a newer one of the camera waits."""
        with self.lock:
            slot, line = self._slots[camera], self._lines[camera]
            _check_in_progress(camera, slot)
            if slot.queued is None:
                return False
            slot.in_progress -= 1
            _count(slot, "replaced")
            line.free_at, line.last = line.free_at_before, line.last_before
            return True

    def published(self, camera: str) -> None:
        """Account for a message that was taken: its results are out."""
        with self.lock:
            slot = self._slots[camera]
            _check_in_progress(camera, slot)
            slot.in_progress -= 1
            slot.published += 1

    def dropped(self, camera: str, reason: str) -> None:
        """Account for a message that was taken: it gave no result, for one of `DROP_REASONS`."""
        if reason not in DROP_REASONS:
            raise ValueError(f"expected a drop reason out of {DROP_REASONS}, got {reason!r}")
        with self.lock:
            slot = self._slots[camera]
            _check_in_progress(camera, slot)
            slot.in_progress -= 1
            _count(slot, reason)

    def counts(self) -> dict[str, FrameCounts]:
        """A consistent snapshot by camera, in the order that the mailbox was made with."""
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

    def _place(self, camera: str) -> tuple[float, int]:
        line = self._lines[camera]
        return max(line.free_at, self._virtual_time), line.last

    def _serve(self, camera: str) -> None:
        line = self._lines[camera]
        self._virtual_time = max(line.free_at, self._virtual_time)
        line.free_at_before, line.last_before = line.free_at, line.last
        self._served += 1
        line.free_at, line.last = self._virtual_time + 1.0 / line.weight, self._served


def _count(slot: _Slot[MessageT], reason: str) -> None:
    slot.dropped[reason] = slot.dropped.get(reason, 0) + 1


def _check_in_progress(camera: str, slot: _Slot[MessageT]) -> None:
    if slot.in_progress == 0:
        raise ValueError(f"expected a message of {camera} in progress, there is none; take one first")
