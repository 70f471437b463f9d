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
from typing import Any, NamedTuple, Protocol

import numpy as np

from ros_kd_perception.health.status import FrameTimes
from ros_kd_perception.model.network_outputs import FIELD_OF_OUTPUT
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.scheduling.mailbox import Mailbox, QueuedMessage
from ros_kd_perception.scheduling.preparation import Done, ReadyFrame
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.structures import FrameFacts
from ros_kd_perception.system.frame_memory import FrameMemory
from ros_kd_perception.system.message_channel import ChannelClosed

SLOTS_OF_A_CAMERA = 4
"""A frame in preparation, one that is ready, one in the network and one that is being published."""


class FrameSender(Protocol):
    """A worker process that frames can be asked of."""

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message. Raises `ChannelClosed` if the process has ended."""


class RemoteFrame(NamedTuple):
    """A frame whose image is in a worker process and whose network input is in the shared memory."""

    frame: FrameFacts
    ticket: int
    slot: int


class RanFrame(NamedTuple):
    """A frame on which the network has run; its outputs are in the shared memory."""

    ticket: int
    inference_ms: float


@dataclass
class _Ticket:
    camera: str
    slot: int
    done: Done
    sender: FrameSender | None  # None once its process has ended
    is_prepared: bool = False
    is_publishing: bool = False
    times: Callable[[int], FrameTimes] | None = None


class RemoteNetwork:
    """Runs a model on frames of the shared memory and leaves the outputs there.

    Attributes:
        model: The model that it runs.

    Args:
        model: The verified model to run.
        frames: The frames. Their memory changes with the model.
    """

    def __init__(self, model: OnnxModel, frames: RemoteFrames) -> None:
        self.model = model
        self._frames = frames

    def perceive_prepared(self, prepared: Sequence[RemoteFrame]) -> list[RanFrame]:
        """Run the network on up to `max_batch` frames in one batch."""
        ran: list[RanFrame] = []
        for first in range(0, len(prepared), self.model.max_batch):
            ran += self._run(prepared[first : first + self.model.max_batch])
        return ran

    def _run(self, batch: Sequence[RemoteFrame]) -> list[RanFrame]:
        memory = self._frames.memory
        inputs = [memory.network_input(one.slot) for one in batch]
        started = time.perf_counter()
        outputs = self.model.run(inputs[0][None] if len(inputs) == 1 else np.stack(inputs))
        inference_ms = (time.perf_counter() - started) * 1e3
        for row, one in enumerate(batch):
            for name, view in memory.outputs(one.slot).items():
                np.copyto(view, getattr(outputs, FIELD_OF_OUTPUT[name])[row : row + 1])
        return [RanFrame(one.ticket, inference_ms) for one in batch]


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
        """Refuse to prepare in this process."""
        raise NotImplementedError("expected worker processes to prepare the frames; use begin")

    def begin(self, queued: QueuedMessage[Any], done: Done) -> None:
        """Ask the camera's process for its newest frame."""
        camera, sender = queued.camera, self._sender_of(queued.camera)
        with self._lock:
            slot = self._free.pop() if self._free and sender is not None else None
            if slot is not None:
                number = next(self._numbers)
                self._tickets[number] = _Ticket(camera, slot, done, sender)
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
            if ticket is None or ticket.is_publishing:
                return
            self._forget(prepared.ticket)
        self._send_or_forget(ticket.sender, "discard", ticket=prepared.ticket)

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
        self._count_missed(camera, message)
        with self._lock:
            ticket = self._tickets.get(number)
            if ticket is None or ticket.is_prepared:
                return
            ticket.is_prepared = True
        facts = FrameFacts(camera, message["stamp_ns"], message["frame_id"], message["height"], message["width"])
        queued = QueuedMessage(camera, None, message["arrival_ns"])
        prepared = RemoteFrame(facts, number, ticket.slot)
        sample = bytes.fromhex(message["sample"])
        ticket.done(ReadyFrame(queued, prepared, sample, message["preparation_ms"], time.monotonic_ns()))

    def see_dropped(self, message: dict[str, Any]) -> None:
        """Count a frame that could not be prepared or published."""
        self._count_missed(message["camera"], message)
        self._end(message["ticket"], message["reason"], message["sentence"], message.get("arrival_ns", 0))

    def see_published(self, message: dict[str, Any]) -> None:
        """Count a frame whose results were published."""
        with self._lock:
            ticket = self._tickets.get(message["ticket"])
            if ticket is None:
                return
            self._forget(message["ticket"])
        if ticket.times is not None:
            self.published(ticket.camera, message["handed_ns"], ticket.times(message["handed_ns"]))

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

    def _count_missed(self, camera: str, message: dict[str, Any]) -> None:
        if "missed" in message:
            self._mailbox.count_missed(camera, message["missed"], message["missed_reason"], message["arrival_ns"])

    def _end(self, number: int, reason: str, sentence: str, arrival_ns: int = 0) -> None:
        with self._lock:
            ticket = self._tickets.get(number)
            if ticket is None:
                return
            self._forget(number)
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

    @staticmethod
    def _send_or_forget(sender: FrameSender | None, kind: str, **fields: Any) -> None:
        try:
            if sender is not None:
                sender.send(kind, **fields)
        except ChannelClosed:
            pass  # the supervisor sees it too
