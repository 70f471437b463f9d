"""SideThread: does for the newest of each camera what nobody must wait for, overlays and PNG masks."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.system.warning_throttle import WarningThrottle

_NICE = 10

ItemT = TypeVar("ItemT")


class SideThread(Generic[ItemT]):
    """Works on the newest item of each camera and drops those that come while it is busy.

    Args:
        name: of the thread, and of the work in warnings.
        cameras: their names.
        work: takes the camera and the item, in the thread.
        warn: logs one sentence; of each camera only now and then.
    """

    def __init__(
        self,
        name: str,
        cameras: Sequence[str],
        work: Callable[[str, ItemT], None],
        warn: Callable[[str], object],
    ) -> None:
        self._mailbox: Mailbox[ItemT] = Mailbox(cameras)
        self._name = name
        self._work = work
        self._throttle = WarningThrottle(warn)
        self._thread: threading.Thread | None = None
        self._closed = True

    def start(self) -> None:
        """Begin to work on what is offered."""
        self._closed = False
        self._mailbox.open()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether it is stopped, or being stopped."""
        return self._closed

    def close(self) -> None:
        """Forget what waits and take no more; the thread ends after what it is at."""
        self._closed = True
        self._mailbox.close()

    def stop(self, timeout_s: float) -> None:
        """Forget what waits and end the thread."""
        self.close()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def offer(self, camera: str, item: ItemT) -> None:
        """Leave an item; never waits."""
        self._mailbox.put(camera, item)

    def _run(self) -> None:
        if hasattr(os, "setpriority"):
            # On Linux the nice value belongs to the thread: pictures give way to perception.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (queued := self._mailbox.take()) is not None:
            try:
                self._work(queued.camera, queued.message)
            except Exception:
                self._mailbox.dropped(queued.camera, "failed")
                text = f"failed to make the {self._name} of {queued.camera}: {traceback.format_exc()}"
                self._throttle.warn(queued.camera, text)
            else:
                self._mailbox.published(queued.camera)
