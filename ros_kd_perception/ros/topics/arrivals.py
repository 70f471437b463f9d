"""Arrivals: notes which cameras have a message in the middleware, without taking it.

A message stays in the middleware until a thread prepares it, so a newer one replaces it there without any work here.
The executor of the node never sees images. Under overload it would take all of them, also those that are replaced
before their turn, and would keep the interpreter from the other threads.

One thread at a time waits for the cameras: the thread of this module while the network runs, and the network's own
thread while it is idle. An image then starts it at once. To be woken by another thread would take a fifth of a
millisecond.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from rclpy.context import Context
from rclpy.impl.implementation_singleton import rclpy_implementation

from ros_kd_perception.ros.topics.camera_images import CameraImages
from ros_kd_perception.scheduling.idle_wait import IdleWait
from ros_kd_perception.system.warning_throttle import WarningThrottle

_YIELD_S = 1e-3
_PAUSE_S = 1e-2
_WAIT_NS = 3_600_000_000_000
_END_TIMEOUT_S = 3.0


class Arrivals(IdleWait):
    """Waits for the cameras that have no noted message, in a thread of its own or in the idle thread of the network.

    Args:
        context: The context of the node.
        cameras: The cameras, with a subscription.
        put: Called with the name and the images of a camera when a message waits. Returns True if it woke an idle
            network thread.
        warn: Logs one sentence.
    """

    def __init__(
        self,
        context: Context,
        cameras: Sequence[CameraImages],
        put: Callable[[str, CameraImages], bool],
        warn: Callable[[str], object],
    ) -> None:
        super().__init__()
        self._cameras = list(cameras)
        self._put = put
        self._throttle = WarningThrottle(warn)
        handle: Any = context.handle
        with handle:
            self._wait_set = rclpy_implementation.WaitSet(len(self._cameras), 1, 0, 0, 0, 0, handle)
            self._guard = rclpy_implementation.GuardCondition(handle)
        self._seat = threading.Lock()  # held by the thread that waits for the cameras, or may
        self._lent_to = 0  # the thread of the network that has the seat, or wants it
        self._given_back = threading.Event()
        self._waiting = False
        self._closed = True
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        for images in self._cameras:
            images.on_taken = self.look_again
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and the wait of another one. Call this before the subscriptions are destroyed."""
        self._closed = True
        self._given_back.set()
        self._trigger()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_END_TIMEOUT_S)

    def wait(self, timeout_s: float | None) -> None:
        """Note messages in the calling thread, which runs the network, until there are some or `wake` is called."""
        if self._closed:
            super().wait(timeout_s)
            return
        if not self._lent_to:
            self._lent_to = threading.get_ident()
            self._trigger()
            self._seat.acquire()
        try:
            self._note_next(_WAIT_NS if timeout_s is None else int(timeout_s * 1e9), self)
        except Exception:
            self._warn_of_failure()
        self.forget()

    def wake(self) -> None:
        """End the wait of the network's thread, or its next one."""
        super().wake()
        if self._waiting:
            self._trigger()

    def leave(self) -> None:
        """Let the thread of this object wait for the cameras. Call it in the network's thread."""
        if self._lent_to == threading.get_ident():
            self._lent_to = 0
            self._seat.release()
            self._given_back.set()

    def look_again(self) -> None:
        """Wait for other cameras: one was taken, or a subscription was made or removed."""
        if self._waiting:
            self._trigger()

    def _trigger(self) -> None:
        with self._guard:
            self._guard.trigger_guard_condition()

    def _run(self) -> None:
        while not self._closed:
            if self._lent_to:
                self._given_back.wait()
                self._given_back.clear()
                continue
            try:
                with self._seat:
                    woke_network = self._note_next(_WAIT_NS)
            except Exception:
                # Without this thread no camera would be perceived any more.
                self._warn_of_failure()
            else:
                if woke_network:
                    # Leave the interpreter to the thread that prepares and runs the frame.
                    time.sleep(_YIELD_S)

    def _warn_of_failure(self) -> None:
        self._throttle.warn("arrivals", f"failed to note the images of cameras: {traceback.format_exc()}")
        time.sleep(_PAUSE_S)

    def _note_next(self, timeout_ns: int, woken: IdleWait | None = None) -> bool:
        """Wait for cameras and note their messages. Return whether that woke the network's thread."""
        # First this note, then the look at the cameras: a camera that is taken in between ends the wait.
        self._waiting = True
        armed = [images for images in self._cameras if not images.is_noted]
        ready = [] if woken is not None and woken.forget() else self._wait_for(armed, timeout_ns)
        self._waiting = False
        woke_network = False
        for images in ready:
            images.note()
            woke_network |= self._put(images.camera, images)
        return woke_network

    def _wait_for(self, armed: list[CameraImages], timeout_ns: int) -> list[CameraImages]:
        wait_set, waiting = self._wait_set, {}
        with ExitStack() as held:
            held.enter_context(self._guard)
            wait_set.clear_entities()
            wait_set.add_guard_condition(self._guard)
            for images in armed:
                # Held during the wait, so that a subscription that is removed meanwhile stays valid until then.
                if (handle := images.held_handle(held)) is not None:
                    wait_set.add_subscription(handle)
                    waiting[int(handle.pointer)] = images
            wait_set.wait(timeout_ns)
        return [waiting[pointer] for pointer in wait_set.get_ready_entities("subscription") if pointer in waiting]
