"""Arrivals: notes which cameras have a message in the middleware, without taking it.

A message stays in the middleware until a thread prepares it, so a newer one replaces it there without any work here.
The executor of the node never sees images. Under overload it would take all of them, also those that are replaced
before their turn, and would keep the interpreter from the other threads.
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
from ros_kd_perception.system.warning_throttle import WarningThrottle

_YIELD_S = 1e-3
_PAUSE_S = 1e-2
_WAIT_NS = 3_600_000_000_000
_END_TIMEOUT_S = 3.0


class Arrivals:
    """A thread that waits for the cameras that have no noted message.

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
        self._cameras = list(cameras)
        self._put = put
        self._throttle = WarningThrottle(warn)
        handle: Any = context.handle
        with handle:
            self._wait_set = rclpy_implementation.WaitSet(len(self._cameras), 1, 0, 0, 0, 0, handle)
            self._guard = rclpy_implementation.GuardCondition(handle)
        self._waiting = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        for images in self._cameras:
            images.on_taken = self.look_again
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread. Call this before the subscriptions are destroyed."""
        self._closed = True
        self._wake()
        self._thread.join(_END_TIMEOUT_S)

    def look_again(self) -> None:
        """Wait for other cameras: one was taken, or a subscription was made or removed."""
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        with self._guard:
            self._guard.trigger_guard_condition()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._note_next()
            except Exception:
                # Without this thread no camera would be perceived any more.
                self._throttle.warn("arrivals", f"failed to note the images of cameras: {traceback.format_exc()}")
                time.sleep(_PAUSE_S)

    def _note_next(self) -> None:
        # First this note, then the look at the cameras: a camera that is taken in between wakes the thread.
        self._waiting = True
        armed = [images for images in self._cameras if not images.is_noted]
        ready = self._wait_for(armed)
        self._waiting = False
        woke_network = False
        for images in ready:
            images.note()
            woke_network |= self._put(images.camera, images)
        if woke_network:
            # Leave the interpreter to the thread that prepares and runs the frame.
            time.sleep(_YIELD_S)

    def _wait_for(self, armed: list[CameraImages]) -> list[CameraImages]:
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
            wait_set.wait(_WAIT_NS)
        return [waiting[pointer] for pointer in wait_set.get_ready_entities("subscription") if pointer in waiting]
