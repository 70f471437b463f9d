"""PerceptionWorker: the thread that runs the network, from prepared frames to the sinks."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ros_kd_perception.health.stamp_age import StampAge
from ros_kd_perception.health.status import CameraHealth, FrameTimes, WorkerLiveness
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import PreparedFrame
from ros_kd_perception.scheduling.frame_preparer import FramePreparer
from ros_kd_perception.scheduling.idle_wait import IdleWait
from ros_kd_perception.scheduling.mailbox import Mailbox, QueuedMessage
from ros_kd_perception.scheduling.preparation import LocalPreparation, Preparation, ReadyFrame
from ros_kd_perception.scheduling.result_sink import FrameResult, ResultSink, publish_beside
from ros_kd_perception.structures import BadFrame, Frame, UInt8Array
from ros_kd_perception.system.warning_throttle import WarningThrottle

_SWAP_POLL_S = 0.05

Admitted = tuple[ReadyFrame, float | None]
"""A frame that may run, and the age of its header stamp in milliseconds (None if it cannot be computed)."""


class NetworkUser(Protocol):
    """Runs a model on prepared frames: a `Perceiver`, or a `RemoteNetwork`."""

    model: OnnxModel

    def fitted(self, prepared: Any) -> Any:
        """Return a prepared frame as the model needs it: prepared again if it was prepared for another model."""

    def perceive_prepared(self, prepared: Sequence[Any]) -> Sequence[Any]:
        """Return the result for each frame."""


@dataclass
class ModelSwap:
    """A model that a worker switches to.

    Attributes:
        perceiver: Runs the new model.
        on_change: Called between the last frame of the old model and the first frame of the new one.
        done: Set once the worker has switched.
    """

    perceiver: NetworkUser
    on_change: Callable[[], object]
    done: bool = False


class PerceptionWorker:
    """Runs the network on each prepared frame in turn and gives the results to the sinks, until it is stopped.

    A small pool of threads decodes and letterboxes the frames.

    Args:
        mailbox: Holds the messages that wait, and counts what becomes of each.
        perceiver: Runs the model. This thread owns it while it runs, except for `prepare`.
        sinks: Get every perceived frame, in this order. The first one decides whether the frame counts as published.
        health: Figures by camera.
        stamp_age: The limit on the age of header stamps.
        warn: Logs one sentence.
        preparation_threads: Number of threads that decode and letterbox.
        prepared_ahead: Number of frames that may be ready while the network runs.
        expected_run_ms: How long the network is expected to run on the first frame, milliseconds.
        collect: Returns the message behind a waiting one; see `LocalPreparation`.
        preparation: Prepares the frames instead of this process.
        idle_wait: Where the thread waits while it has no frame.
    """

    def __init__(
        self,
        mailbox: Mailbox[Any],
        perceiver: NetworkUser,
        sinks: Sequence[ResultSink],
        health: Mapping[str, CameraHealth],
        stamp_age: StampAge,
        warn: Callable[[str], object],
        preparation_threads: int = 1,
        prepared_ahead: int = 1,
        expected_run_ms: float = 0.0,
        collect: Callable[[QueuedMessage[Any]], QueuedMessage[Any] | None] = lambda queued: queued,
        preparation: Preparation | None = None,
        idle_wait: IdleWait | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._perceiver = perceiver
        self._collect = collect
        self._preparation = preparation
        self._idle_wait = idle_wait
        self._sinks = sinks
        self._health = health
        self._stamp_age = stamp_age
        self._throttle = WarningThrottle(warn)
        self.drop_log = DropLog(mailbox, health, warn)
        self._pool = (preparation_threads, prepared_ahead, expected_run_ms)
        self._preparer: FramePreparer | None = None
        self._thread: threading.Thread | None = None
        self._busy_since_ns = 0
        self._frame_lock = threading.Lock()  # held while a frame is processed
        self._swap_lock = threading.Lock()
        self._swap: ModelSwap | None = None

    def start(self) -> None:
        """Open the mailbox and start the threads. Stamps of an earlier activation are forgotten."""
        for health in self._health.values():
            health.watch.restart()
        self._preparer = self.new_preparer()
        self._thread = threading.Thread(target=self._run, args=(self._preparer,), name="perception", daemon=True)
        self._preparer.start()
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Close the mailbox and wait for the frames in progress. Return False if they are not done in time."""
        preparer, self._preparer = self._preparer, None
        thread, self._thread = self._thread, None
        if preparer is None or thread is None:
            return True
        preparer.close()
        thread.join(timeout_s)
        return preparer.join(timeout_s) and not thread.is_alive()

    def new_preparer(self) -> FramePreparer:
        """Make the pool of one activation. Frames that hang in the pool of an earlier activation are ignored."""
        return FramePreparer(self._mailbox, self.new_preparation(), *self._pool, self._idle_wait)

    def new_preparation(self) -> Preparation:
        """Make what prepares the frames of one activation."""
        if self._preparation is not None:
            return self._preparation
        return LocalPreparation(self._mailbox, self._make_input, self.drop_log.drop, self._collect)

    def _make_input(self, frame: Frame, out: UInt8Array | None) -> PreparedFrame:
        # Of the perceiver of this moment: the model may change while the pool runs.
        perceiver: Any = self._perceiver
        prepared: PreparedFrame = perceiver.prepare(frame, out)
        return prepared

    def liveness(self) -> WorkerLiveness:
        """Return whether its threads are alive, and how long the network has been busy with the current frame."""
        busy_since_ns, thread, preparer = self._busy_since_ns, self._thread, self._preparer
        busy_s = (time.monotonic_ns() - busy_since_ns) / 1e9 if busy_since_ns else 0.0
        alive = thread is not None and thread.is_alive() and preparer is not None and preparer.alive
        return WorkerLiveness(alive, busy_s)

    def swap(self, swap: ModelSwap, cancelled: threading.Event, timeout_s: float) -> bool:
        """Switch to another model between two frames. Safe whether or not the thread runs.

        Args:
            swap: The new model.
            cancelled: Ends the wait when it is set.
            timeout_s: How long to wait for the frame in progress, seconds.

        Returns:
            False if it was cancelled or the frame in progress hangs. The old model then stays.
        """
        with self._swap_lock:
            self._swap = swap
        deadline_s = time.monotonic() + timeout_s
        # Either this thread makes the switch between two frames, or the network's thread does before its next one.
        while not swap.done:
            if self._frame_lock.acquire(timeout=_SWAP_POLL_S):
                try:
                    self._change_over()
                finally:
                    self._frame_lock.release()
            elif cancelled.is_set() or time.monotonic() > deadline_s:
                with self._swap_lock:
                    if self._swap is swap:
                        self._swap = None
                        return False
        return True

    def _change_over(self) -> None:
        with self._swap_lock:
            swap, self._swap = self._swap, None
        if swap is not None:
            self._perceiver = swap.perceiver
            try:
                swap.on_change()
            finally:
                swap.done = True

    def process(self, *batch: ReadyFrame) -> None:
        """Perceive frames of different cameras in one run of the network, and give the results to the sinks.

        A frame without a result is counted as dropped, with a reason.
        """
        with self._frame_lock:
            self._change_over()
            started_ns = self._busy_since_ns = time.monotonic_ns()
            try:
                admitted = [one for ready in batch if (one := self._admit(ready, started_ns)) is not None]
                for (ready, stamp_age_ms), perception in zip(admitted, self._perceive(admitted), strict=True):
                    if perception is not None:
                        self._publish(FrameResult(ready, perception, stamp_age_ms, started_ns))
            finally:
                self._busy_since_ns = 0

    def _admit(self, ready: ReadyFrame, started_ns: int) -> Admitted | None:
        frame = ready.prepared.frame
        camera, health = frame.camera, self._health[frame.camera]
        try:
            # This check comes first: the watch must not remember a stamp of the future as the latest one.
            self._stamp_age.check_future(camera, frame.stamp_ns)
            health.watch.check(started_ns, frame.stamp_ns, (frame.height, frame.width), ready.sample, frame.frame_id)
            stamp_age_ms = self._stamp_age.check(camera, frame.stamp_ns)
            # Here and not with the network: the sinks need the geometry of the input that the network gets.
            ready = replace(ready, prepared=self._perceiver.fitted(ready.prepared))
        except BadFrame as error:
            self.drop_log.drop(camera, error.reason, str(error))
        except Exception:
            self.drop_log.drop(camera, "failed", traceback.format_exc())
        else:
            return ready, stamp_age_ms
        finally:
            # Also for a dropped frame: a stale one may show that stamps and clock can be compared again.
            health.stamp_limit_suspended = self._stamp_age.is_suspended(camera)
        return None

    def _perceive(self, admitted: list[Admitted]) -> list[Any]:
        try:
            return [*self._perceiver.perceive_prepared([ready.prepared for ready, _ in admitted])]
        except Exception:
            if len(admitted) > 1:
                # A single frame may be the cause. Run each frame by itself.
                return [perception for one in admitted for perception in self._perceive([one])]
            # Any error of the network or the driver: this frame is lost, the next one may work.
            for ready, _ in admitted:
                self.drop_log.drop(ready.queued.camera, "failed", traceback.format_exc())
            return [None] * len(admitted)

    def _publish(self, result: FrameResult) -> None:
        camera, (first, *others) = result.frame.camera, self._sinks
        try:
            first.publish(result)
        except Exception:
            # Any error of the middleware: this frame is lost, the next one may work.
            self.drop_log.drop(camera, "failed", traceback.format_exc())
            return
        if first.confirms_later:
            return
        self.count_published(camera, result.handed_ns, result.times)
        publish_beside(others, result, self._throttle.warn)

    def count_published(self, camera: str, handed_ns: int, times: FrameTimes) -> None:
        """Count a frame as published.

        Args:
            camera: Name of its camera.
            handed_ns: Steady clock at which its results were handed to the middleware.
            times: The times of the frame until then.
        """
        self._mailbox.published(camera)
        self._health[camera].record(handed_ns, times)

    def _run(self, preparer: FramePreparer) -> None:
        while (ready := preparer.take()) is not None:
            others = self._perceiver.model.max_batch - 1
            self.process(ready, *(preparer.take_batch(others) if others else ()))


class DropLog:
    """Counts and logs frames that were taken from the mailbox and cannot be published. Safe for any number of threads.

    Args:
        mailbox: The mailbox that the frames come from.
        health: Figures by camera; they keep the last sentence.
        warn: Logs one sentence. It is called at most once per camera and reason every few seconds.
    """

    def __init__(
        self, mailbox: Mailbox[Any], health: Mapping[str, CameraHealth], warn: Callable[[str], object]
    ) -> None:
        self._mailbox = mailbox
        self._health = health
        self._throttle = WarningThrottle(warn)

    def drop(self, camera: str, reason: str, sentence: str) -> None:
        """Drop a frame.

        Args:
            camera: Name of its camera.
            reason: One of `DROP_REASONS`.
            sentence: Says what was expected and what came.
        """
        self._mailbox.dropped(camera, reason)
        if reason != "failed":
            self._health[camera].record_refusal(sentence)
        self._throttle.warn((camera, reason), f"dropped a frame of {camera}, {reason}: {sentence}")
