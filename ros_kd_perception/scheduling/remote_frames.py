"""RemoteFrames: frames that worker processes take, prepare and publish, while this process runs the network on them.

Each frame has a ticket and a slot of the shared memory from the moment it is asked for until its results are published
or it is dropped. Every ticket ends in exactly one count of the mailbox, also if its worker process ends.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from ros_kd_perception.health.status import FrameTimes
from ros_kd_perception.scheduling.mailbox import Mailbox, QueuedMessage
from ros_kd_perception.scheduling.preparation import Done, ReadyFrame
from ros_kd_perception.scheduling.remote_network import RanFrame, RemoteFrame
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.structures import FrameFacts
from ros_kd_perception.system.frame_memory import FrameMemory
from ros_kd_perception.system.message_channel import ChannelClosed

SLOTS_OF_A_CAMERA = 4
"""A frame in preparation, one that is ready, one in the network and one that is being published."""
ANSWER_S = 1.0
"""A frame whose process has not prepared it for so long is given up, so that the other cameras get its place."""


class FrameSender(Protocol):
    """A worker process that frames can be asked of."""

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message. Raises `ChannelClosed` if the process has ended."""


@dataclass
class _Ticket:
    camera: str
    slot: int
    done: Done
    sender: FrameSender | None  # None once its process has ended
    asked_s: float
    is_prepared: bool = False
    is_given_up: bool = False  # it is counted, and its process may still write to its slot
    is_publishing: bool = False
    times: Callable[[int], FrameTimes] | None = None


class RemoteFrames:
    """Asks worker processes for frames and has them publish the results. It is a `Preparation`.

    Attributes:
        memory: The shared memory of the active model.
        published: Called with camera, steady clock of the hand-over and times of each published frame.
        drop: Called with camera, reason and sentence of each frame that is dropped.

    Args:
        mailbox: Counts what becomes of each message.
        memory: The shared memory, with `SLOTS_OF_A_CAMERA` slots for each camera.
        sender_of: Returns the process that serves a camera now, or None.
    """

    never_waits = True

    def __init__(
        self, mailbox: Mailbox[Any], memory: FrameMemory, sender_of: Callable[[str], FrameSender | None]
    ) -> None:
        self.memory = memory
        self.published: Callable[[str, int, FrameTimes], object] = lambda *_: None
        self.drop: Callable[[str, str, str], object] = lambda *_: None
        self._mailbox = mailbox
        self._sender_of = sender_of
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._tickets: dict[int, _Ticket] = {}
        self._free = [*range(memory.slots)]

    def is_quick(self, message: Any) -> bool:
        """Return False: this process prepares nothing."""
        return False

    def prepare(self, queued: QueuedMessage[Any]) -> ReadyFrame | None:
        """Ask the camera's process for its newest frame and wait for it. Every request has an answer or is given up."""
        answer: SimpleQueue[ReadyFrame | None] = SimpleQueue()
        self.begin(queued, answer.put)
        return answer.get()

    def begin(self, queued: QueuedMessage[Any], done: Done) -> None:
        """Ask the camera's process for its newest frame."""
        camera, sender = queued.camera, self._sender_of(queued.camera)
        with self._lock:
            slot = self._free.pop() if self._free and sender is not None else None
            if slot is not None:
                number = next(self._numbers)
                self._tickets[number] = _Ticket(camera, slot, done, sender, time.monotonic())
        if slot is None or sender is None:
            self._lose(camera, "its process has ended, and another one takes over" if sender is None else "no slot")
            done(None)
            return
        try:
            sender.send("prepare", camera=camera, ticket=number, slot=slot, max_age_ms=self._mailbox.max_age_ms)
        except ChannelClosed as error:
            self._end(number, "worker_lost", str(error))

    def give_back(self, ready: ReadyFrame) -> None:
        """Free the slot of a frame that was dropped before its results were sent."""
        prepared: RemoteFrame = ready.prepared
        with self._lock:
            ticket = self._tickets.get(prepared.ticket)
        if ticket is not None and not ticket.is_publishing:
            self._discard(prepared.ticket, ticket)

    def publish(self, result: FrameResult) -> None:
        """Have the results of a frame published by the process that took it."""
        ran: RanFrame = result.perception
        with self._lock:
            ticket = self._tickets[ran.ticket]
            ticket.is_publishing, ticket.times = True, result.times_at
            sender = ticket.sender
        if sender is None:
            self._end(ran.ticket, "worker_lost", "its process has ended")
            return
        try:
            sender.send(
                "publish",
                ticket=ran.ticket,
                inference_ms=ran.inference_ms,
                started_ns=result.started_ns,
                stamp_age_ms=result.stamp_age_ms,
            )
        except ChannelClosed:
            self._end(ran.ticket, "worker_lost", "its process has ended")

    def see_arrival(self, camera: str) -> None:
        """Note that a message of a camera waits in its process's middleware."""
        self._mailbox.put(camera, None)

    def see_ready(self, message: dict[str, Any]) -> None:
        """Pass a prepared frame on to the network."""
        number, camera = message["ticket"], message["camera"]
        self._count_missed(message)
        with self._lock:
            ticket = self._tickets.get(number)
            if ticket is None or ticket.is_prepared:
                return
            ticket.is_prepared = not ticket.is_given_up
        if ticket.is_given_up:
            self._discard(number, ticket)
            return
        facts = FrameFacts(camera, message["stamp_ns"], message["frame_id"], message["height"], message["width"])
        queued = QueuedMessage(camera, None, message["arrival_ns"])
        prepared = RemoteFrame(facts, number, ticket.slot)
        sample = bytes.fromhex(message["sample"])
        ticket.done(ReadyFrame(queued, prepared, sample, message["preparation_ms"], time.monotonic_ns()))

    def see_dropped(self, message: dict[str, Any]) -> None:
        """Count a frame that could not be prepared or published."""
        self._count_missed(message)
        self._end(message["ticket"], message["reason"], message["sentence"], message.get("arrival_ns", 0))

    def give_up_unanswered(self) -> None:
        """Count the frames that their processes should have prepared long ago, and free their places ahead.

        A hung process would otherwise hold the places of all cameras until it is ended. Its slots stay its own.
        """
        asked_before_s = time.monotonic() - ANSWER_S
        with self._lock:
            late = [t for t in self._tickets.values() if t.asked_s < asked_before_s and _is_awaited(t)]
            for ticket in late:
                ticket.is_given_up = True
        for ticket in late:
            self._lose(ticket.camera, f"its process has not prepared it within {ANSWER_S:g} s")
            ticket.done(None)

    def see_published(self, number: int, handed_ns: int) -> None:
        """Count a frame as published.

        Args:
            number: Its ticket.
            handed_ns: Steady clock at which its results were handed to the middleware.
        """
        with self._lock:
            ticket = self._tickets.get(number)
            if ticket is None:
                return
            self._forget(number)
        if ticket.times is not None:
            self.published(ticket.camera, handed_ns, ticket.times(handed_ns))

    def see_end(self, sender: FrameSender, cameras: Sequence[str], sentence: str) -> None:
        """Count the frames of a process that has ended. Those that are ready are counted when their turn comes."""
        with self._lock:
            held = {number: ticket for number, ticket in self._tickets.items() if ticket.sender is sender}
            for ticket in held.values():
                ticket.sender = None
        for number, ticket in held.items():
            if not ticket.is_prepared or ticket.is_publishing:
                self._end(number, "worker_lost", sentence)
        for camera in cameras:
            self._mailbox.drop_waiting(camera, "worker_lost")

    def _count_missed(self, message: dict[str, Any]) -> None:
        if "missed" in message:
            self._mailbox.count_missed(
                message["camera"], message["missed"], message["missed_reason"], message["arrival_ns"]
            )

    def _end(self, number: int, reason: str, sentence: str, arrival_ns: int = 0) -> None:
        with self._lock:
            ticket = self._tickets.get(number)
            if ticket is None:
                return
            self._forget(number)
        if ticket.is_given_up:
            return
        if reason == "too_old":
            self._mailbox.drop_too_old(QueuedMessage(ticket.camera, None, arrival_ns))
        elif sentence:
            self.drop(ticket.camera, reason, sentence)
        else:
            self._mailbox.dropped(ticket.camera, reason)
        if not ticket.is_prepared:
            ticket.done(None)

    def _lose(self, camera: str, sentence: str) -> None:
        self.drop(camera, "worker_lost", sentence)

    def _forget(self, number: int) -> None:
        self._free.append(self._tickets.pop(number).slot)

    def _discard(self, number: int, ticket: _Ticket) -> None:
        sender = ticket.sender
        try:
            if sender is not None:
                # Before its slot is free: a process fills the slots of its frames again when the model changes.
                sender.send("discard", ticket=number)
        except ChannelClosed:
            pass  # the supervisor sees it too
        with self._lock:
            if number in self._tickets:
                self._forget(number)


def _is_awaited(ticket: _Ticket) -> bool:
    return not ticket.is_prepared and not ticket.is_given_up
