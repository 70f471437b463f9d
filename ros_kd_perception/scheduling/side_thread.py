"""SideThread: does slow work, such as overlays and PNG masks, outside the thread that runs the network."""

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
    """Works on the newest item of each camera. Items that arrive while it is busy replace the waiting one.

    Args:
        name: Name of the thread, and of the work in warnings.
        cameras: Names of the cameras.
        work: Called in the thread with the camera and the item.
        warn: Logs one sentence. It is called at most once per camera every few seconds.
    """

    def __init__(
        self,
        name: str,
        cameras: Sequence[str],
        work: Callable[[str, ItemT], None],
        warn: Callable[[str], object],
    ) -> None:
        self._cameras = cameras
        self._mailbox: Mailbox[ItemT] = Mailbox(cameras)
        self._name = name
        self._work = work
        self._throttle = WarningThrottle(warn)
        self._thread: threading.Thread | None = None
        self._closed = True

    def start(self) -> None:
        """Start the thread."""
        self._closed = False
        # A mailbox of its own for each start: a thread that was too slow for `stop` finds its own one closed and ends.
        self._mailbox = Mailbox(self._cameras)
        self._mailbox.open()
        self._thread = threading.Thread(target=self._run, args=(self._mailbox,), name=self._name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the thread that does the work must end. Only the work may ask."""
        return self._closed or threading.current_thread() is not self._thread

    def close(self) -> None:
        """Drop the waiting items and accept no more. The thread ends after its current item."""
        self._closed = True
        self._mailbox.close()

    def stop(self, timeout_s: float) -> None:
        """Drop the waiting items and wait for the thread to end, `timeout_s` seconds at most."""
        self.close()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def offer(self, camera: str, item: ItemT) -> None:
        """Leave an item for the thread. Never waits."""
        self._mailbox.put(camera, item)

    def _run(self, mailbox: Mailbox[ItemT]) -> None:
        if hasattr(os, "setpriority"):
            # On Linux each thread has its own nice value: this work yields to perception.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (queued := mailbox.take()) is not None:
            try:
                self._work(queued.camera, queued.message)
            except Exception:
                mailbox.dropped(queued.camera, "failed")
                text = f"failed to make the {self._name} of {queued.camera}: {traceback.format_exc()}"
                self._throttle.warn(queued.camera, text)
            else:
                mailbox.published(queued.camera)
