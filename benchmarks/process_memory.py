"""Memory, open files and shared memory of a process and all its child processes, as the kernel tells them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MIB = 1 << 20


def process_tree(process_id: int) -> list[int]:
    """Return the process and its children, their children and so on."""
    found = [process_id]
    for parent in found:
        with suppress(OSError):
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text(encoding="ascii").split())
    return found


def figures_of(process_id: int) -> dict[str, float]:
    """Return the sums over a process and its child processes.

    Returns:
        `rss_mib`: resident memory; what processes share counts for each. `own_mib`: memory that they allocated.
        `files`: open files. `processes`: their number. `shared_mib`: size of the shared memory that they have made,
        their frames and the middleware's segments.
    """
    tree = process_tree(process_id)
    sums = {"rss_mib": 0.0, "own_mib": 0.0, "files": 0.0, "processes": 0.0}
    shared: dict[tuple[int, int], int] = {}
    for process in tree:
        with suppress(OSError):  # it has ended meanwhile
            fields = _status(process)
            files = list(_open_files(process))
            sums["rss_mib"] += int(fields["VmRSS"].split()[0]) / 1024
            sums["own_mib"] += int(fields["RssAnon"].split()[0]) / 1024
            sums["files"] += len(files)
            sums["processes"] += 1
            for file in files:
                shared |= _shared_memory(file)
    return {**sums, "shared_mib": sum(shared.values()) / _MIB}


def _status(process: int) -> dict[str, str]:
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return dict(line.split(":", 1) for line in text.splitlines())


def _open_files(process: int) -> Iterator[Path]:
    return Path(f"/proc/{process}/fd").iterdir()


def _shared_memory(file: Path) -> dict[tuple[int, int], int]:
    # A process holds a lock on `NAME_el` while the segment NAME is its own. Frames have no name.
    found: dict[tuple[int, int], int] = {}
    with suppress(OSError):
        target = os.readlink(file)
        if target.startswith("/dev/shm/") and target.endswith("_el"):
            facts = Path(target.removesuffix("_el")).stat()
        elif target.startswith("/memfd:"):
            facts = file.stat()
        else:
            return found
        found[facts.st_dev, facts.st_ino] = facts.st_size
    return found
