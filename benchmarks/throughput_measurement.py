"""Start the node of `throughput.py`, and measure it at one offered rate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node_process import TIMEOUT_S
from throughput_cameras import Senders
from throughput_node import BUSY, NETWORK_TIMES

DIAGNOSTICS_PERIOD_S = 0.5
SETTLE_S = 1.0
END_TIMEOUT_S = 20.0
AGE = "stamp_age_ms"
LATENCY = "latency_ms"
MARKS = ("p50", "p95", "p99")


@dataclass(frozen=True)
class Trouble:
    """What makes the node slow in its own process.

    Attributes:
        busy_threads: Threads that compute without end.
        switch_interval_ms: Switch interval of the interpreter; None for its default of 5 ms.
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
        code: Checkout whose package the node runs; None for that of all settings.
        parameters: Parameters of the node.
    """

    name: str
    code: Path | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Threads:
    """CPU seconds of a process and its threads since they started.

    Attributes:
        name: `node`, or the kernel's name of a process that the node started.
        cpu_s: CPU time of the process, with threads that have ended.
        threads: Name and CPU time by thread id.
    """

    name: str
    cpu_s: float
    threads: Mapping[int, tuple[str, float]]


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
    """

    at_s: float
    stamp_ns: int
    counts: Counter[str]
    times_ms: Mapping[str, Mapping[str, float | None]]
    family: Mapping[int, Threads]
    network: tuple[int, ...]
    sent: int
    senders_cpu_s: float


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
        self._process_id, self._times = 0, Path()
        self.samples: list[Sample] = []
        self.active = False
        node.create_subscription(DiagnosticArray, "/diagnostics", self._keep, 10)

    def watch(self, process_id: int, times: Path) -> None:
        """Observe another node from now on."""
        self._process_id, self._times, self.samples, self.active = process_id, times, [], False

    def _keep(self, message: Any) -> None:
        statuses = {
            status.name.rpartition(": ")[2]: {item.key: item.value for item in status.values}
            for status in message.status
        }
        cameras = [values for camera in self._cameras if "received" in (values := statuses.get(camera, {}))]
        if not self._process_id or len(cameras) < len(self._cameras):
            return
        self.active = all(values["state"] != "inactive" for values in cameras)
        counts: Counter[str] = Counter()
        for values in cameras:
            names = [name for name in values if name in ("received", "published") or name.startswith("dropped.")]
            counts.update({name: int(values[name]) for name in names})
        self.samples.append(
            Sample(
                time.monotonic(),
                message.header.stamp.sec * 10**9 + message.header.stamp.nanosec,
                counts,
                {kind: _highest(cameras, kind) for kind in (AGE, LATENCY)},
                cpu_of_family(self._process_id),
                NETWORK_TIMES.unpack(self._times.read_bytes()),
                self._senders.sent(),
                self._senders.cpu_s(),
            )
        )


def _highest(cameras: Sequence[Mapping[str, str]], kind: str) -> dict[str, float | None]:
    values = {mark: [float(text) for camera in cameras if (text := camera[f"{kind}.{mark}"])] for mark in MARKS}
    return {mark: max(found, default=None) for mark, found in values.items()}


def measure(
    spin: Any, observer: Observer, senders: Senders, command: Sequence[str], code: Path, work: Path,
    offered_per_s: float, small_hz: float, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Measure one offered rate in a node that runs for it alone, so that no earlier rate has a part in its figures.

    Args:
        spin: Takes messages for the observer, for up to 0.1 s.
        observer: Listens to the node.
        senders: The camera processes.
        command: Command of the node.
        code: Checkout whose package the node runs.
        work: Folder for files.
        offered_per_s: Images a second that the cameras send together.
        small_hz: Messages a second on each small topic.
        seconds: Least length of the measurement, from one message of the diagnostics to another.
    """
    times = work / "network_times"
    times.write_bytes(bytes(NETWORK_TIMES.size))
    with _running([*command[:2], "--times", str(times), *command[2:]], code, work) as process:
        observer.watch(process.pid, times)

        def spin_until(condition: Any, what: str, timeout_s: float = TIMEOUT_S) -> None:
            deadline_s = time.monotonic() + timeout_s
            while not condition():
                spin()
                if process.poll() is not None or not senders.alive or time.monotonic() > deadline_s:
                    raise SystemExit(f"expected {what}; a process has ended or hangs, see its log above")

        try:
            spin_until(lambda: observer.active and senders.matched() == senders.count, "an active node and its cameras")
            process.send_signal(signal.SIGUSR1)
            senders.send(offered_per_s, small_hz)
            settled_s = time.monotonic() + SETTLE_S
            spin_until(lambda: observer.samples[-1].at_s >= settled_s, "diagnostics")
            first = observer.samples[-1]
            ends_ns = first.stamp_ns + int(seconds * 1e9)
            spin_until(lambda: observer.samples[-1].stamp_ns >= ends_ns, "diagnostics", TIMEOUT_S + seconds)
        finally:
            senders.send(0.0)
    return {"offered_per_s": offered_per_s, **figures(first, observer.samples[-1])}


def node_command(variant: Variant, model: Path, device: str, cameras: Sequence[str], trouble: Trouble) -> list[str]:
    """Return the command of the node: the defaults of its parameters, but one network thread."""
    parameters = {
        "model": str(model),
        "device": device,
        "cameras": f"[{', '.join(cameras)}]",
        "intra_op_threads": "1",
        "autostart": "true",
        "diagnostics_period_s": str(DIAGNOSTICS_PERIOD_S),
        **variant.parameters,
    }
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    script = str(Path(__file__).with_name("throughput_node.py"))
    return [sys.executable, script, *trouble.options(), "--ros-args", "--log-level", "perception:=warn", *arguments]


@contextmanager
def _running(command: Sequence[str], code: Path, work: Path) -> Iterator[subprocess.Popen[bytes]]:
    # The models that passed their trial are noted in a cache of the run's own.
    environment = {**os.environ, "PYTHONPATH": str(code), "XDG_CACHE_HOME": str(work / "cache")}
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
        "node_cores": round(node_s / clock_s, 3),
        "busy_cores": round(busy_s / clock_s, 3),
        "senders_cores": round((last.senders_cpu_s - first.senders_cpu_s) / clock_s, 3),
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


def spent_by_thread(before: Mapping[int, Threads], after: Mapping[int, Threads]) -> dict[str, dict[str, float]]:
    """Return the CPU seconds of each thread of each process, between two moments.

    Threads of one name are added up. `ended` has what threads spent that are gone. Processes of one name get numbers.
    """
    spent: dict[str, dict[str, float]] = {}
    for process_id, process in after.items():
        old = before.get(process_id, Threads(process.name, 0.0, {}))
        threads: Counter[str] = Counter()
        for thread_id, (name, cpu_s) in process.threads.items():
            threads[name] += cpu_s - old.threads.get(thread_id, ("", 0.0))[1]
        ended_s = process.cpu_s - old.cpu_s - sum(threads.values())
        if ended_s > 0:
            threads["ended"] = ended_s
        name, number = process.name, 1
        while name in spent:
            number += 1
            name = f"{process.name} {number}"
        spent[name] = {thread: cpu_s for thread, cpu_s in threads.items() if cpu_s > 0}
    return spent


def cpu_of_family(process_id: int) -> dict[int, Threads]:
    """Return the CPU time of a process and of all processes below it, from /proc (proc(5))."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(folder)):
            parents[int(folder.name)] = int(fields[2])
    family = [process_id]
    for member in family:
        family += sorted(child for child, parent in parents.items() if parent == member)
    found = {member: _threads(member, "node" if member == process_id else "") for member in family}
    return {member: threads for member, threads in found.items() if threads is not None}


def _threads(process_id: int, name: str) -> Threads | None:
    folder = Path("/proc", str(process_id))
    threads = {}
    try:
        for thread in folder.joinpath("task").iterdir():
            if fields := _stat(thread):
                own = "main" if thread.name == folder.name else fields[0]
                threads[int(thread.name)] = (own, _cpu_s(fields))
    except FileNotFoundError:
        return None
    fields = _stat(folder)
    # Read after the threads, so that what is left for threads that have ended is not below zero.
    return Threads(name or fields[0], _cpu_s(fields), threads) if fields else None


def _stat(folder: Path) -> list[str]:
    """Return the name and the fields from `state` on of a process or thread; an empty list if it has ended."""
    try:
        before, _, after = folder.joinpath("stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [before.partition("(")[2], *after.split()]


def _cpu_s(fields: Sequence[str]) -> float:
    return (int(fields[12]) + int(fields[13])) / os.sysconf("SC_CLK_TCK")
