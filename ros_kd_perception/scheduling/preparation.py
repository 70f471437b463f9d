"""Preparation: from a waiting message to a frame that is ready for the network. Here in the threads of this process."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ros_kd_perception.health.watch import picture_sample
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.perceiver import PreparedFrame
from ros_kd_perception.scheduling.mailbox import QueuedMessage
from ros_kd_perception.structures import BadFrame, Frame, UInt8Array

_QUICK_ENCODINGS = ("bgr8", "8UC3")  # they need no conversion
_QUICK_PIXELS = 1 << 20


@dataclass(frozen=True)
class ReadyFrame:
    """A frame that is ready for the network.

    Attributes:
        queued: The message and its arrival time.
        prepared: The frame and its network input, a `PreparedFrame`, or a `RemoteFrame` of another process.
        sample: Sample of the picture, for `CameraWatch`.
        preparation_ms: Time for decoding and letterboxing, milliseconds.
        ready_ns: Steady clock when it was ready.
    """

    queued: QueuedMessage[Any]
    prepared: Any
    sample: bytes
    preparation_ms: float
    ready_ns: int


Done = Callable[["ReadyFrame | None"], object]
"""Gets the ready frame, or None for a message that was dropped and counted."""


class Preparation(Protocol):
    """Prepares messages, in this process or in others. `FramePreparer` decides when, and which one is next.

    Attributes:
        never_waits: Whether `begin` only asks another process.
    """

    never_waits: bool

    def is_quick(self, message: Any) -> bool:
        """Return whether the network's own thread should prepare the message with `prepare` when it is idle."""

    def prepare(self, queued: QueuedMessage[Any]) -> ReadyFrame | None:
        """Prepare a message now. Return None if it was dropped."""

    def begin(self, queued: QueuedMessage[Any], done: Done) -> None:
        """Prepare a message and call `done` once, before this returns or later from another thread."""

    def give_back(self, ready: ReadyFrame) -> None:
        """Note that the network input of a frame is not needed any more."""


class FrameAccount(Protocol):
    """Counts frames that are dropped before they are ready, as a `Mailbox` does."""

    def dropped(self, camera: str, reason: str) -> None:
        """Count a frame as dropped, for one of `DROP_REASONS`."""

    def is_too_old(self, queued: QueuedMessage[Any], now_ns: int) -> bool:
        """Return whether a message is too old at a time of the steady clock."""

    def drop_too_old(self, queued: QueuedMessage[Any]) -> None:
        """Count a message as too old."""


class LocalPreparation:
    """Takes, decodes and letterboxes in the calling thread. Safe in several threads.

    Args:
        account: Counts what becomes of each message.
        make_input: Makes the network input of a frame, in the given buffer if that one fits.
        drop: Called with camera, reason and sentence for a message that cannot be prepared.
        collect: Returns the message that is behind a waiting one, with its own arrival time, or None if there is none
            any more. The node leaves messages in the middleware until their turn.
    """

    never_waits = False

    def __init__(
        self,
        account: FrameAccount,
        make_input: Callable[[Frame, UInt8Array | None], PreparedFrame],
        drop: Callable[[str, str, str], object],
        collect: Callable[[QueuedMessage[Any]], QueuedMessage[Any] | None] = lambda queued: queued,
    ) -> None:
        self._account = account
        self._make_input = make_input
        self._drop = drop
        self._collect = collect
        self._lock = threading.Lock()
        self._free: list[UInt8Array] = []

    def is_quick(self, message: Any) -> bool:
        """Return True for a small image without conversion, which takes no longer than a handover between threads."""
        if getattr(message, "encoding", None) not in _QUICK_ENCODINGS:
            return False
        height, width = getattr(message, "height", 0), getattr(message, "width", 0)
        return 0 < int(height) * int(width) <= _QUICK_PIXELS

    def prepare(self, queued: QueuedMessage[Any]) -> ReadyFrame | None:
        """Take, decode and letterbox one message. Return None if it had to be dropped."""
        camera = queued.camera
        with self._lock:
            buffer = self._free.pop() if self._free else None
        try:
            found = self._collect(queued)
            if found is None:
                self._account.dropped(camera, "lost")
            elif self._account.is_too_old(found, started_ns := time.monotonic_ns()):
                self._account.drop_too_old(found)
            else:
                frame = frame_from_message(camera, found.message)
                prepared, sample = self._make_input(frame, buffer), picture_sample(frame.image_bgr)
                ready_ns = time.monotonic_ns()
                return ReadyFrame(found, prepared, sample, (ready_ns - started_ns) / 1e6, ready_ns)
        except BadFrame as error:
            self._drop(camera, error.reason, str(error))
        except Exception:
            # Out of memory, or any error of a decoder: this frame is lost, the next one may work.
            self._drop(camera, "failed", traceback.format_exc())
        if buffer is not None:
            self._free.append(buffer)
        return None

    def begin(self, queued: QueuedMessage[Any], done: Done) -> None:
        """Prepare the message and pass the result on."""
        done(self.prepare(queued))

    def give_back(self, ready: ReadyFrame) -> None:
        """Use the memory of the network input again."""
        self._free.append(ready.prepared.network_input)
