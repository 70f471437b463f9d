"""Start the node of `throughput.py`, and measure it at one offered rate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpu_by_thread import Threads, cpu_of_family, machine_cpu_s, spent_by_thread
from node_process import ROOT, TIMEOUT_S
from throughput_cameras import Senders
from throughput_node import BUSY, NETWORK_TIMES

DIAGNOSTICS_PERIOD_S = 0.5
SETTLE_S = 1.0
END_TIMEOUT_S = 20.0
AGE = "stamp_age_ms"
LATENCY = "latency_ms"
MARKS = ("p50", "p95", "p99")
MIDDLEWARE = "dds."
"""How the names of Fast DDS's threads begin. They copy every image that a camera sends."""


@dataclass(frozen=True)
class Trouble:
    """What makes the node slow in its own process.

    Attributes:
        busy_threads: Threads that compute without end.
        switch_interval_ms: Switch interval of the interpreter; None for the one that the node sets.
        small_topics: Number of topics with small messages.
        small_hz: Messages a second on each of them.
    """

    busy_threads: int = 0
    switch_interval_ms: float | None = None
    small_topics: int = 0
    small_hz: float = 0.0

    def options(self) -> list[str]:
        """Return the options of `throughput_node.py`."""
        options = ["--busy-threads", str(self.busy_threads), "--small-topics", str(self.small_topics)]
        if self.switch_interval_ms is not None:
            options += ["--switch-interval-ms", str(self.switch_interval_ms)]
        return options


@dataclass(frozen=True)
class Variant:
    """Settings of the node that are compared with others.

    Attributes:
        name: Name in tables and plots.
        code: Checkout whose package the node runs.
        parameters: Parameters of the node.
    """

    name: str
    code: Path = ROOT
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Everything that is counted, at one moment.

    Attributes:
        at_s: Steady clock of this process.
        stamp_ns: Stamp of the diagnostics, to which `counts` belong.
        counts: `received`, `published` and `dropped.*` of all cameras together.
        times_ms: Percentiles of the camera that has the highest.
        family: The node and the processes that it started, by process id.
        network: Sums of `throughput_node.NETWORK_TIMES`.
        sent: Images that the cameras have sent.
        senders_cpu_s: CPU time of the camera processes.
        machine_cpu_s: CPU time of everything on the machine.
    """

    at_s: float
    stamp_ns: int
    counts: Counter[str]
    times_ms: Mapping[str, Mapping[str, float | None]]
    family: Mapping[int, Threads]
    network: tuple[int, ...]
    sent: int
    senders_cpu_s: float
    machine_cpu_s: float


class Observer:
    """Listens to the diagnostics of the node while it runs.

    Args:
        node: A node of this process.
        cameras: Names of the cameras.
        senders: The camera processes.
    """

    def __init__(self, node: Any, cameras: Sequence[str], senders: Senders) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        self._cameras, self._senders = cameras, senders
        self._process_id, self._times, self._since_ns = 0, Path(), 0
        self.samples: list[Sample] = []
        self.active = False
        node.create_subscription(DiagnosticArray, "/diagnostics", self._keep, 10)

    def watch(self, process_id: int, times: Path) -> None:
        """Observe another node from now on."""
        self._process_id, self._times, self._since_ns = process_id, times, time.time_ns()
        self.samples, self.active = [], False

    def _keep(self, message: Any) -> None:
        statuses = {
            status.name.rpartition(": ")[2]: {item.key: item.value for item in status.values}
            for status in message.status
        }
        cameras = [values for camera in self._cameras if "received" in (values := statuses.get(camera, {}))]
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if not self._process_id or stamp_ns < self._since_ns or len(cameras) < len(self._cameras):
            return  # the last words of an earlier node, or a node that is not configured yet
        self.active = all(values["state"] != "inactive" for values in cameras)
        counts: Counter[str] = Counter()
        for values in cameras:
            names = [name for name in values if name in ("received", "published") or name.startswith("dropped.")]
            counts.update({name: int(values[name]) for name in names})
        self.samples.append(
            Sample(
                time.monotonic(),
                stamp_ns,
                counts,
                {kind: _highest(cameras, kind) for kind in (AGE, LATENCY)},
                cpu_of_family(self._process_id),
                NETWORK_TIMES.unpack(self._times.read_bytes()),
                self._senders.sent(),
                self._senders.cpu_s(),
                machine_cpu_s(),
            )
        )


def _highest(cameras: Sequence[Mapping[str, str]], kind: str) -> dict[str, float | None]:
    values = {mark: [float(text) for camera in cameras if (text := camera[f"{kind}.{mark}"])] for mark in MARKS}
    return {mark: max(found, default=None) for mark, found in values.items()}


@dataclass(frozen=True)
class Bench:
    """Everything that is the same for all variants and rates.

    Attributes:
        model: The network.
        device: Execution provider.
        cameras: Names of the cameras.
        trouble: What makes the node slow in its own process.
        seconds: Least length of a measurement, from one message of the diagnostics to another.
        work: Folder for files.
        senders: The camera processes.
        observer: Listens to the node.
        spin: Takes messages for the observer, for up to 0.1 s.
    """

    model: Path
    device: str
    cameras: Sequence[str]
    trouble: Trouble
    seconds: float
    work: Path
    senders: Senders
    observer: Observer
    spin: Callable[[], object]

    def measure(self, variant: Variant, offered_per_s: float) -> dict[str, Any]:
        """Measure one offered rate in a node that runs for it alone, so that no earlier rate is in its figures."""
        times = self.work / "network_times"
        times.write_bytes(bytes(NETWORK_TIMES.size))
        observer, senders = self.observer, self.senders
        with _running(self._command(variant, times), variant.code, self.work / "cache") as process:
            observer.watch(process.pid, times)
            try:
                self._wait(lambda: observer.active and senders.matched() == senders.count, "an active node", process)
                process.send_signal(signal.SIGUSR1)
                senders.send(offered_per_s, self.trouble.small_hz)
                first = self._sample_after(SETTLE_S, process)
                last = self._sample_after(self.seconds, process)
            finally:
                senders.send(0.0)
        return {"offered_per_s": offered_per_s, **figures(first, last)}

    def _sample_after(self, seconds: float, process: subprocess.Popen[bytes]) -> Sample:
        earliest_s = self.observer.samples[-1].at_s + seconds
        self._wait(lambda: self.observer.samples[-1].at_s >= earliest_s, "diagnostics", process, seconds)
        return self.observer.samples[-1]

    def _wait(
        self, condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes], least_s: float = 0.0
    ) -> None:
        deadline_s = time.monotonic() + least_s + TIMEOUT_S
        while not condition():
            self.spin()
            if process.poll() is not None or not self.senders.alive or time.monotonic() > deadline_s:
                raise SystemExit(f"expected {what}; a process has ended or hangs, see its log above")

    def _command(self, variant: Variant, times: Path) -> list[str]:
        """Return the command of the node: the defaults of its parameters, but one network thread."""
        parameters = {
            "model": str(self.model),
            "device": self.device,
            "cameras": f"[{', '.join(self.cameras)}]",
            "intra_op_threads": "1",
            "autostart": "true",
            "diagnostics_period_s": str(DIAGNOSTICS_PERIOD_S),
            **variant.parameters,
        }
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        script = Path(__file__).with_name("throughput_node.py")
        command = [sys.executable, str(script), "--times", str(times), *self.trouble.options()]
        return [*command, "--ros-args", "--log-level", "perception:=warn", *arguments]


@contextmanager
def _running(command: Sequence[str], code: Path, cache: Path) -> Iterator[subprocess.Popen[bytes]]:
    # The node notes in its cache which models passed their trial.
    environment = {**os.environ, "PYTHONPATH": str(code), "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def figures(first: Sample, last: Sample) -> dict[str, Any]:
    """Return what happened between two samples, as rates, percentiles and CPU time."""
    stamps_s, clock_s = (last.stamp_ns - first.stamp_ns) / 1e9, last.at_s - first.at_s
    counts = last.counts - first.counts
    rates = {name: count / stamps_s for name, count in counts.items()}
    spent = spent_by_thread(first.family, last.family)
    busy_s = sum(s for threads in spent.values() for name, s in threads.items() if name.startswith(f"{BUSY} "))
    node_s = sum(s for threads in spent.values() for s in threads.values()) - busy_s
    runs, frames, run_ns, run_cpu_ns = (
        after - before for after, before in zip(last.network, first.network, strict=True)
    )
    received_per_s, published_per_s = (rates.get(name, 0.0) for name in ("received", "published"))
    machine_cores, node_cores = (last.machine_cpu_s - first.machine_cpu_s) / clock_s, node_s / clock_s
    receiving_s = sum(s for threads in spent.values() for name, s in threads.items() if name.startswith(MIDDLEWARE))
    there = os.cpu_count() or 1

    def ms_for_each(cpu_s: float, per_s: float) -> float | None:
        return round(1e3 * cpu_s / clock_s / per_s, 3) if per_s > 0 else None

    return {
        "span_s": round(stamps_s, 2),
        "sent_per_s": round((last.sent - first.sent) / clock_s, 1),
        "received_per_s": round(received_per_s, 1),
        "published_per_s": round(published_per_s, 1),
        "dropped_per_s": {
            name.removeprefix("dropped."): round(rate, 1) for name, rate in rates.items() if name.startswith("dropped.")
        },
        "age_ms": last.times_ms[AGE],
        "latency_ms": last.times_ms[LATENCY],
        "node_cores": round(node_cores, 3),
        "busy_cores": round(busy_s / clock_s, 3),
        "senders_cores": round((last.senders_cpu_s - first.senders_cpu_s) / clock_s, 3),
        "machine_cores": round(machine_cores, 3),
        "machine_share": round(machine_cores / there, 3),
        "cores_left": round(there - (machine_cores - node_cores) - receiving_s / clock_s, 3),
        "node_ms_per_received": ms_for_each(node_s, received_per_s),
        "node_ms_per_published": ms_for_each(node_s, published_per_s),
        "beside_network_ms_per_received": ms_for_each(node_s - run_cpu_ns / 1e9, received_per_s),
        "beside_network_ms_per_published": ms_for_each(node_s - run_cpu_ns / 1e9, published_per_s),
        "network": {
            "runs_per_s": round(runs / clock_s, 1),
            "frames_per_run": round(frames / runs, 2) if runs else None,
            "run_ms": round(run_ns / 1e6 / runs, 3) if runs else None,
            "run_cpu_ms": round(run_cpu_ns / 1e6 / runs, 3) if runs else None,
        },
        "cores_by_thread": {
            process: {name: round(s / clock_s, 4) for name, s in sorted(threads.items(), key=lambda item: -item[1])}
            for process, threads in spent.items()
        },
    }
