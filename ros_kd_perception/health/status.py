"""Health of the node in figures: rates, ages and latencies, drops by reason, and what to say about them.

Knows no ROS: a `Status` has the fields of a diagnostic_msgs/DiagnosticStatus.
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

__all__ = ["WINDOW_S", "CameraHealth", "CameraLink", "FrameTimes", "Level", "Status", "WorkerPulse", "worker_problem"]

_MAX_SAMPLES = 1000
_MAX_SENTENCE = 300


@dataclass(frozen=True)
class Status:
    """One diagnostic status: `name` is what it is about, `values` are key and value in the order to show."""

    level: Level
    name: str
    message: str
    hardware_id: str = ""
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FrameTimes:
    """The times of one published frame, milliseconds.

    Attributes:
        processing_ms: for decoding and letterboxing, and from the start of its run to its messages being handed over.
        latency_ms: from its arrival to then, so with the waits for its turn.
        stamp_age_ms: from its header stamp by the ROS clock; None where the two are of different clocks.
    """

    processing_ms: float
    latency_ms: float
    stamp_age_ms: float | None


class CameraHealth:
    """Collects what happened to one camera's frames; safe for two threads, one that records and one that asks.

    Attributes:
        silence_timeout_ms: how long the camera may be silent; may be changed.
        watch: looks at its frames.
        stamp_limit_suspended: set while an age limit on stamps was asked for that cannot be applied.
    """

    def __init__(self, camera: str, silence_timeout_ms: float) -> None:
        self.camera = camera
        self.silence_timeout_ms = silence_timeout_ms
        self.watch = CameraWatch(camera)
        self.stamp_limit_suspended = False
        self._times: deque[tuple[int, FrameTimes]] = deque(maxlen=_MAX_SAMPLES)
        self._snapshots: deque[tuple[int, FrameCounts]] = deque()
        self._refusal = ""
        self._lock = threading.Lock()

    def record(self, now_ns: int, times: FrameTimes) -> None:
        """A frame was published; `now_ns` is the steady clock."""
        with self._lock:
            self._times.append((now_ns, times))

    def record_refusal(self, sentence: str) -> None:
        """A frame was dropped for a fault of its own; `sentence` says what was expected and what came."""
        self._refusal = " ".join(sentence.split())[:_MAX_SENTENCE]

    def status(self, now_ns: int, counts: FrameCounts, link: CameraLink, active_since_ns: int | None) -> Status:
        """What to say now.

        Args:
            now_ns: steady clock.
            counts: the mailbox's, of this camera.
            link: the camera's topic.
            active_since_ns: steady clock of the activation, None while inactive.
        """
        recent, span_s = self._recent(now_ns, counts)
        with self._lock:
            times = [t for at_ns, t in self._times if now_ns - at_ns <= WINDOW_S * 1e9]
        watch = self.watch.report(now_ns)
        verdict = Verdict(Level.OK, "inactive", "inactive")
        if active_since_ns is not None:
            facts = CameraFacts(
                recent,
                span_s,
                link,
                silent_s=(now_ns - max(active_since_ns, counts.latest_arrival_ns)) / 1e9,
                has_sent=counts.latest_arrival_ns > active_since_ns,
                silence_timeout_ms=self.silence_timeout_ms,
                refusal=self._refusal,
                watch=watch,
                stamp_limit_suspended=self.stamp_limit_suspended,
            )
            verdict = judge(facts)
        values = [
            ("state", verdict.state),
            ("topic", link.topic),
            ("publishers", str(link.publishers)),
            ("size", watch.size),
            ("rate_in_hz", f"{recent.received / span_s:.2f}"),
            ("rate_out_hz", f"{recent.published / span_s:.2f}"),
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
        # The oldest snapshot that is kept is the last one before the window.
        snapshots = self._snapshots
        while len(snapshots) > 1 and now_ns - snapshots[1][0] >= WINDOW_S * 1e9:
            snapshots.popleft()
        before_ns, before = snapshots[0] if snapshots else (now_ns, counts)
        if not snapshots or now_ns > snapshots[-1][0]:
            snapshots.append((now_ns, counts))
        return counts.since(before), max((now_ns - before_ns) / 1e9, 1e-3)


@dataclass(frozen=True)
class WorkerPulse:
    """The thread that runs the network: whether it lives, and how long it has been at one frame, seconds."""

    alive: bool
    busy_s: float = 0.0


STUCK_AFTER_S = 5.0
"""No frame takes the network so long; a thread that does hangs in a driver."""


def worker_problem(pulse: WorkerPulse) -> str:
    """One sentence if the thread is dead or stuck, else empty."""
    if not pulse.alive:
        return "the thread that runs the network has ended; deactivate and activate the node"
    if pulse.busy_s > STUCK_AFTER_S:
        return f"the network has been busy with one frame for {pulse.busy_s:.0f} s; restart the node"
    return ""


def _percentiles(name: str, samples: Sequence[float]) -> list[tuple[str, str]]:
    marks = (50, 95, 99)
    if not samples:
        return [(f"{name}.p{mark}", "") for mark in marks]
    return [(f"{name}.p{m}", f"{v:.2f}") for m, v in zip(marks, np.percentile(samples, marks), strict=True)]
