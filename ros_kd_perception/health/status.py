"""CameraHealth: collects the figures of one camera (rates, ages, latencies, drops) and turns them into a Status.

This module does not use ROS. A `Status` has the fields of a diagnostic_msgs/DiagnosticStatus.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ros_kd_perception.health.verdict import CameraFacts, CameraLink, Level, Verdict, judge
from ros_kd_perception.health.watch import WINDOW_S, CameraWatch
from ros_kd_perception.structures import DROP_REASONS, FrameCounts

__all__ = [
    "WINDOW_S",
    "CameraHealth",
    "CameraLink",
    "FrameTimes",
    "Level",
    "Status",
    "WorkerLiveness",
    "worker_problem",
]

_MAX_SAMPLES = 1000
_MAX_SENTENCE = 300


@dataclass(frozen=True)
class Status:
    """One diagnostic status, with the fields of diagnostic_msgs/DiagnosticStatus.

    Attributes:
        level: How bad it is.
        name: What the status describes, such as a camera.
        message: The findings in words.
        hardware_id: The hardware, if there is any.
        values: Keys and values in display order.
    """

    level: Level
    name: str
    message: str
    hardware_id: str = ""
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FrameTimes:
    """The times of one published frame, in milliseconds.

    Attributes:
        processing_ms: Time for decoding and letterboxing, plus the time from the start of inference until the results
            are published.
        latency_ms: Time from arrival until the results are published. It includes the waiting time.
        stamp_age_ms: Time from the header stamp until the results are published, by the ROS clock. None if stamp and
            clock cannot be compared.
    """

    processing_ms: float
    latency_ms: float
    stamp_age_ms: float | None


class CameraHealth:
    """Collects what happens to the frames of one camera. One thread may record while another calls `status`.

    Attributes:
        silence_timeout_ms: How long the camera may be silent. May be changed.
        max_rate_hz: Limit on the frames a second that are taken; 0 for no limit. May be changed.
        watch: Checks the camera's frames for faults.
        stamp_limit_suspended: True while an age limit on stamps is set but cannot be applied.
    """

    def __init__(self, camera: str, silence_timeout_ms: float) -> None:
        self.camera = camera
        self.silence_timeout_ms = silence_timeout_ms
        self.max_rate_hz = 0.0
        self.watch = CameraWatch(camera)
        self.stamp_limit_suspended = False
        self._times: deque[tuple[int, FrameTimes]] = deque(maxlen=_MAX_SAMPLES)
        self._snapshots: deque[tuple[int, FrameCounts]] = deque()
        self._refusal = ""
        self._enabled = True
        self._enabled_since_ns = 0
        self._lock = threading.Lock()

    def record(self, now_ns: int, times: FrameTimes) -> None:
        """Record a published frame.

        Args:
            now_ns: Time of the steady clock.
            times: The times of the frame.
        """
        with self._lock:
            self._times.append((now_ns, times))

    def record_refusal(self, sentence: str) -> None:
        """Record why a faulty frame was dropped. `sentence` says what was expected and what was found."""
        self._refusal = " ".join(sentence.split())[:_MAX_SENTENCE]

    def set_enabled(self, enabled: bool, now_ns: int) -> None:
        """Say whether the node receives the camera. Its silence is counted from `now_ns` on, of the steady clock."""
        if enabled:
            self.watch.restart()
            self._enabled_since_ns = now_ns
        self._enabled = enabled

    def status(self, now_ns: int, counts: FrameCounts, link: CameraLink, active_since_ns: int | None) -> Status:
        """Return the diagnostic status of the camera.

        Args:
            now_ns: Time of the steady clock.
            counts: The mailbox's counts for this camera.
            link: The publishers on the camera's topic.
            active_since_ns: Steady time of the activation. None while inactive.
        """
        recent, span_s = self._recent(now_ns, counts)
        with self._lock:
            times = [t for at_ns, t in self._times if now_ns - at_ns <= WINDOW_S * 1e9]
        watch = self.watch.report(now_ns)
        verdict = Verdict(Level.OK, "inactive", "inactive")
        if not self._enabled:
            verdict = Verdict(Level.OK, "disabled", f"disabled by the parameter {self.camera}.enabled")
        elif active_since_ns is not None:
            since_ns = max(active_since_ns, self._enabled_since_ns)
            facts = CameraFacts(
                recent,
                span_s,
                link,
                # While a message waits, newer ones of its camera stay unseen in the middleware.
                silent_s=0.0 if counts.waiting else (now_ns - max(since_ns, counts.latest_arrival_ns)) / 1e9,
                has_sent=counts.latest_arrival_ns > since_ns,
                silence_timeout_ms=self.silence_timeout_ms,
                refusal=self._refusal,
                watch=watch,
                stamp_limit_suspended=self.stamp_limit_suspended,
                max_rate_hz=self.max_rate_hz,
            )
            verdict = judge(facts)
        values = [
            ("state", verdict.state),
            ("topic", link.topic),
            ("publishers", str(link.publishers)),
            ("size", watch.size),
            ("rate_in_hz", f"{recent.received / span_s:.2f}"),
            ("rate_out_hz", f"{recent.published / span_s:.2f}"),
            ("max_rate_hz", f"{self.max_rate_hz:g}" if self.max_rate_hz else ""),
            ("received", str(counts.received)),
            ("published", str(counts.published)),
            ("waiting", str(counts.waiting + counts.in_progress)),
            *((f"dropped.{reason}", str(counts.dropped.get(reason, 0))) for reason in DROP_REASONS),
            *_percentiles("latency_ms", [t.latency_ms for t in times]),
            *_percentiles("processing_ms", [t.processing_ms for t in times]),
            *_percentiles("stamp_age_ms", [t.stamp_age_ms for t in times if t.stamp_age_ms is not None]),
        ]
        return Status(verdict.level, self.camera, verdict.message, values=tuple(values))

    def _recent(self, now_ns: int, counts: FrameCounts) -> tuple[FrameCounts, float]:
        # Keep the last snapshot from before the window as the start of the counts.
        snapshots = self._snapshots
        while len(snapshots) > 1 and now_ns - snapshots[1][0] >= WINDOW_S * 1e9:
            snapshots.popleft()
        before_ns, before = snapshots[0] if snapshots else (now_ns, counts)
        if not snapshots or now_ns > snapshots[-1][0]:
            snapshots.append((now_ns, counts))
        return counts.since(before), max((now_ns - before_ns) / 1e9, 1e-3)


@dataclass(frozen=True)
class WorkerLiveness:
    """The state of the thread that runs the network.

    Attributes:
        alive: Whether the thread runs.
        busy_s: How long it has been working on its current frame, in seconds. 0 while it waits.
    """

    alive: bool
    busy_s: float = 0.0


STUCK_AFTER_S = 5.0
"""No frame takes this long. A thread that is busy for longer hangs in a driver."""


def worker_problem(liveness: WorkerLiveness) -> str:
    """Return one sentence if the thread has ended or is stuck, else an empty string."""
    if not liveness.alive:
        return "the thread that runs the network has ended; deactivate and activate the node"
    if liveness.busy_s > STUCK_AFTER_S:
        return f"the network has been busy with one frame for {liveness.busy_s:.0f} s; restart the node"
    return ""


def _percentiles(name: str, samples: Sequence[float]) -> list[tuple[str, str]]:
    marks = (50, 95, 99)
    if not samples:
        return [(f"{name}.p{mark}", "") for mark in marks]
    return [(f"{name}.p{m}", f"{v:.2f}") for m, v in zip(marks, np.percentile(samples, marks), strict=True)]
