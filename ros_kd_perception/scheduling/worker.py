"""The thread that owns the network: one prepared frame at a time from the mailbox to the publishers."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ros_kd_perception.health.stamp_age import StampAge
from ros_kd_perception.health.status import CameraHealth, FrameTimes, WorkerLiveness
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.scheduling.frame_preparer import FramePreparer, ReadyFrame
from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.structures import BadFrame, Frame, Perception
from ros_kd_perception.system.warning_throttle import WarningThrottle

_SWAP_POLL_S = 0.05

Admitted = tuple[ReadyFrame, float | None]
"""A frame that may run, with the age of its header stamp in milliseconds."""


class ResultTopics(Protocol):
    """Where the results of one camera go."""

    def publish(self, segmentation: Any, detections: Any) -> None:
        """Hand both messages to the middleware."""

    def publish_times(self, times: FrameTimes) -> None:
        """Tell how long the frame took, if anybody looks."""

    def publish_free_space(self, perception: Perception) -> None:
        """Find and publish the free space, as far as anybody subscribes to it; never raises."""

    def offer_pictures(self, frame: Frame, perception: Perception) -> None:
        """Leave what overlays and PNG masks are made from, if anybody looks; never waits."""


@dataclass
class ModelSwap:
    """What a worker changes over to, and `on_change`, called between the last frame of the old and the first of it."""

    perceiver: Perceiver
    builder: MessageBuilder
    on_change: Callable[[], object]
    done: bool = False


class PerceptionWorker:
    """Runs `process` for every frame in turn until it is stopped; a small pool prepares them.

    Args:
        mailbox: where messages wait, and where each is accounted for.
        perceiver: owned by this thread while it runs, but for `prepare`.
        builder: for the messages.
        topics: by camera.
        health: by camera.
        stamp_age: the limit on header stamps.
        warn: logs one sentence.
        preparation_threads: decode and letterbox.
        prepared_ahead: frames that may be ready while the network runs.
        expected_run_ms: of the network.
    """

    def __init__(
        self,
        mailbox: Mailbox[Any],
        perceiver: Perceiver,
        builder: MessageBuilder,
        topics: Mapping[str, ResultTopics],
        health: Mapping[str, CameraHealth],
        stamp_age: StampAge,
        warn: Callable[[str], object],
        preparation_threads: int = 1,
        prepared_ahead: int = 1,
        expected_run_ms: float = 0.0,
    ) -> None:
        self._mailbox = mailbox
        self._perceiver = perceiver
        self._builder = builder
        self._topics = topics
        self._health = health
        self._stamp_age = stamp_age
        self._throttle = WarningThrottle(warn)
        self._drop_log = DropLog(mailbox, health, warn)
        self._pool = (preparation_threads, prepared_ahead, expected_run_ms)
        self._preparer: FramePreparer | None = None
        self._thread: threading.Thread | None = None
        self._busy_since_ns = 0
        self._frame_lock = threading.Lock()  # held while the network's thread is at a frame
        self._swap_lock = threading.Lock()
        self._swap: ModelSwap | None = None

    def start(self) -> None:
        """Open the mailbox and begin; stamps of an earlier activation do not count."""
        for health in self._health.values():
            health.watch.restart()
        self._preparer = self.new_preparer()
        self._thread = threading.Thread(target=self._run, args=(self._preparer,), name="perception", daemon=True)
        self._preparer.start()
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Close the mailbox and wait for the frames in progress; False if they are not done in time."""
        preparer, self._preparer = self._preparer, None
        thread, self._thread = self._thread, None
        if preparer is None or thread is None:
            return True
        preparer.close()
        thread.join(timeout_s)
        return preparer.join(timeout_s) and not thread.is_alive()

    def new_preparer(self) -> FramePreparer:
        """The pool of one activation; what hangs in an earlier one is no longer listened to."""
        # Not the bound method: the perceiver may be another one by then.
        return FramePreparer(
            self._mailbox, lambda frame, out: self._perceiver.prepare(frame, out), self._drop_log.drop, *self._pool
        )

    def liveness(self) -> WorkerLiveness:
        """Whether its threads live and the network gets on."""
        busy_since_ns, thread, preparer = self._busy_since_ns, self._thread, self._preparer
        busy_s = (time.monotonic_ns() - busy_since_ns) / 1e9 if busy_since_ns else 0.0
        alive = thread is not None and thread.is_alive() and preparer is not None and preparer.alive
        return WorkerLiveness(alive, busy_s)

    def swap(self, swap: ModelSwap, cancelled: threading.Event, timeout_s: float) -> bool:
        """Change over to another model between two frames; safe while the thread runs and while it does not.

        Returns:
            False if it was cancelled or a frame hangs; the old model then stays.
        """
        with self._swap_lock:
            self._swap = swap
        deadline_s = time.monotonic() + timeout_s
        # Whoever is first, this thread between two frames or the network's own before its next one.
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
            self._perceiver, self._builder = swap.perceiver, swap.builder
            try:
                swap.on_change()
            finally:
                swap.done = True

    def process(self, *batch: ReadyFrame) -> None:
        """Perceive frames, each of another camera, in one run of the network and publish what was seen in them.

        A frame that gives no result is dropped for a reason.
        """
        with self._frame_lock:
            self._change_over()
            started_ns = self._busy_since_ns = time.monotonic_ns()
            try:
                admitted = [one for ready in batch if (one := self._admit(ready, started_ns)) is not None]
                for (ready, stamp_age_ms), perception in zip(admitted, self._perceive(admitted), strict=True):
                    self._publish(ready, perception, stamp_age_ms, started_ns)
            finally:
                self._busy_since_ns = 0

    def _admit(self, ready: ReadyFrame, started_ns: int) -> Admitted | None:
        frame = ready.prepared.frame
        camera, health = frame.camera, self._health[frame.camera]
        try:
            # First of all: a stamp of the future must not become the one that the next must not be before.
            self._stamp_age.check_future(camera, frame.stamp_ns)
            health.watch.check(started_ns, frame.stamp_ns, frame.image_bgr.shape, ready.sample, frame.frame_id)
            stamp_age_ms = self._stamp_age.check(camera, frame.stamp_ns)
        except BadFrame as error:
            self._drop_log.drop(camera, error.reason, str(error))
        except Exception:
            self._drop_log.drop(camera, "failed", traceback.format_exc())
        else:
            return ready, stamp_age_ms
        finally:
            # A stale frame tells, too, that stamps and clock can be compared again.
            health.stamp_limit_suspended = self._stamp_age.is_suspended(camera)
        return None

    def _perceive(self, admitted: list[Admitted]) -> list[Perception | None]:
        try:
            return [*self._perceiver.perceive_prepared([ready.prepared for ready, _ in admitted])]
        except Exception:
            if len(admitted) > 1:
                # One frame may be to blame: by themselves the others do.
                return [perception for one in admitted for perception in self._perceive([one])]
            # Whatever the network or the driver raised: this frame is lost, the next may do.
            for ready, _ in admitted:
                self._drop_log.drop(ready.queued.camera, "failed", traceback.format_exc())
            return [None] * len(admitted)

    def _publish(
        self, ready: ReadyFrame, perception: Perception | None, stamp_age_ms: float | None, started_ns: int
    ) -> None:
        if perception is None:
            return
        frame = ready.prepared.frame
        camera = frame.camera
        try:
            segmentation = self._builder.segmentation(perception)
            detections = self._builder.detections(perception)
            handed_ns = time.monotonic_ns()
            topics = self._topics[camera]
            topics.publish(segmentation, detections)
        except Exception:
            # Whatever the middleware raised: this frame is lost, the next may do.
            self._drop_log.drop(camera, "failed", traceback.format_exc())
            return
        self._mailbox.published(camera)
        run_ms = (handed_ns - started_ns) / 1e6
        age_ms = None if stamp_age_ms is None else stamp_age_ms + run_ms
        latency_ms = (handed_ns - ready.queued.arrival_ns) / 1e6
        times = FrameTimes(ready.preparation_ms + run_ms, latency_ms, age_ms)
        self._health[camera].record(handed_ns, times)
        self._tell_more(topics, frame, perception, times)

    def _tell_more(self, topics: ResultTopics, frame: Frame, perception: Perception, times: FrameTimes) -> None:
        try:
            topics.publish_free_space(perception)
            topics.publish_times(times)
            topics.offer_pictures(frame, perception)
        except Exception:
            # The results are out, and the thread goes on.
            text = f"failed to publish free space, times or pictures of {frame.camera}: {traceback.format_exc()}"
            self._throttle.warn((frame.camera, "more"), text)

    def _run(self, preparer: FramePreparer) -> None:
        while (ready := preparer.take()) is not None:
            others = self._perceiver.model.max_batch - 1
            self.process(ready, *(preparer.take_batch(others) if others else ()))


class DropLog:
    """Accounts for frames that were taken and cannot be published; safe for any number of threads.

    Args:
        mailbox: where they were taken.
        health: by camera; told the sentence.
        warn: logs one sentence; of each camera and reason only now and then.
    """

    def __init__(
        self, mailbox: Mailbox[Any], health: Mapping[str, CameraHealth], warn: Callable[[str], object]
    ) -> None:
        self._mailbox = mailbox
        self._health = health
        self._throttle = WarningThrottle(warn)

    def drop(self, camera: str, reason: str, sentence: str) -> None:
        """Drop a frame for one of `DROP_REASONS`; `sentence` says what was expected and what came."""
        self._mailbox.dropped(camera, reason)
        if reason != "failed":
            self._health[camera].record_refusal(sentence)
        self._throttle.warn((camera, reason), f"dropped a frame of {camera}, {reason}: {sentence}")
