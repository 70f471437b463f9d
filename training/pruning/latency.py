"""Measured latency of a cut student as a share of its parent's, on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ros_kd_perception.model.execution_provider import SessionRequest, open_session
from ros_kd_perception.model.session import PlainSession, SessionRunner
from ros_kd_perception.structures import UInt8Array
from training.export.export import build_graph
from training.export.settings import ExportSettings
from training.networks.student import Student

PAIRS = 41  # of runs before the interval is looked at; odd, so that the median is one of them
MOST_PAIRS = 5 * PAIRS
WARM_UP = 3
CONFIDENCE = 1.96  # standard deviations of 95 %


@dataclass(frozen=True)
class LatencyShare:
    """A ratio of latencies.

    Attributes:
        share: Median of the ratios of pairs of runs.
        uncertainty: Half of the 95 % confidence interval of that median.
        milliseconds: Median latency of the cut student.
        parent_milliseconds: Median latency of the parent, from the same pairs.
    """

    share: float
    uncertainty: float
    milliseconds: float
    parent_milliseconds: float

    @classmethod
    def of(cls, seconds: Sequence[tuple[float, float]]) -> LatencyShare:
        """Compare runs of the parent with the run of the student after each of them, (parent, student) in seconds.

        The interval is that of order statistics: it assumes nothing about how latencies are distributed.
        """
        parent, student = np.asarray(seconds, np.float64).T
        ratios = np.sort(student / parent)
        middle, reach = (len(ratios) - 1) / 2, CONFIDENCE * math.sqrt(len(ratios)) / 2
        low, high = max(0, math.floor(middle - reach)), min(len(ratios) - 1, math.ceil(middle + reach))
        medians = (1e3 * float(np.median(times)) for times in (student, parent))
        return cls(float(np.median(ratios)), float(ratios[high] - ratios[low]) / 2, *medians)


class LatencyMeter:
    """Times exported students beside their parent: a run of the parent, a run of the student, and again.

    Both run in one process and share what else the machine does, so that their ratio holds where times drift. They run
    on the CPU, in the session of a vehicle.
    """

    def __init__(self, parent: Student, settings: ExportSettings, threads: int) -> None:
        """Export the parent.

        Args:
            parent: The network that the others are compared with.
            settings: Classes and size of the input.
            threads: Threads of a run.
        """
        self._settings = settings
        self._threads = threads
        shape = (1, settings.height, settings.width, 3)
        self._image: UInt8Array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self._parent = self._opened(parent)

    def resolution(self) -> float:
        """Return by how much a share must differ from 1 to be measured here: the parent is compared with itself."""
        found = self._compare(self._parent, 1.0)
        return abs(found.share - 1) + found.uncertainty

    def share_of(self, student: Student, target: float) -> LatencyShare:
        """Export a student of the parent's classes and compare it with the parent.

        Args:
            student: The student.
            target: Share that it will be held against. The closer the student is to it, the more pairs are run.
        """
        return self._compare(self._opened(student), target)

    def _opened(self, student: Student) -> SessionRunner:
        graph = build_graph(student, self._settings)
        request = SessionRequest(
            content=graph.SerializeToString(),
            sha256="",
            device="cpu",
            precision="fp32",
            file_precision="fp32",
            input_shape=(self._settings.height, self._settings.width, 3),
            intra_op_threads=self._threads,
        )
        session, _ = open_session(request)
        return PlainSession(session, [output.name for output in graph.graph.output])

    def _compare(self, runner: SessionRunner, target: float) -> LatencyShare:
        self._pairs(runner, WARM_UP)
        pairs = self._pairs(runner, PAIRS)
        found = LatencyShare.of(pairs)
        while abs(found.share - target) < found.uncertainty and len(pairs) < MOST_PAIRS:
            pairs += self._pairs(runner, PAIRS)
            found = LatencyShare.of(pairs)
        return found

    def _pairs(self, runner: SessionRunner, count: int) -> list[tuple[float, float]]:
        return [(self._seconds(self._parent), self._seconds(runner)) for _ in range(count)]

    def _seconds(self, runner: SessionRunner) -> float:
        start = time.perf_counter()
        runner.run(self._image)
        return time.perf_counter() - start
