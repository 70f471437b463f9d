"""CPU time of a process and of the processes that it started, by thread, from /proc (proc(5))."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


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


def spent_by_thread(before: Mapping[int, Threads], after: Mapping[int, Threads]) -> dict[str, dict[str, float]]:
    """Return the CPU seconds of each thread of each process, between two moments.

    Threads of one name are added up. `ended` has what threads spent that are gone. Processes of one name get numbers.
    """
    spent: dict[str, dict[str, float]] = {}
    for process_id, process in after.items():
        old = before.get(process_id, Threads(process.name, 0.0, {}))
        threads: dict[str, float] = defaultdict(float)
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
    """Return the CPU time of a process and of all processes below it."""
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


def machine_cpu_s() -> float:
    """Return the CPU seconds that all processes of the machine and its kernel have used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _io_wait, *interrupts = fields[:7]
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
