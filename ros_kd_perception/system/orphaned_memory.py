"""Removes the shared memory of killed Fast DDS processes, 32 MiB each. Otherwise it stays until the next reboot.

A node that crashes and restarts every few seconds would fill the machine's shared memory within minutes. After that, no
process could send images. While the owner of a segment is alive, Fast DDS holds a lock (flock) on `<segment>_el`. The
tool `fastdds shm clean` checks the same lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
MIN_AGE_S = 10.0
"""Younger segments are kept, because their owner may not have taken the lock yet."""

# Names of versions 2 and 3. Ports (`fastdds_port7001`) do not match, because several processes share them.
_LOCK_NAME = re.compile(r"(fast(?:dds|rtps)_[0-9a-f]{16})_el")
_SEGMENT_NAME = re.compile(r"fast(?:dds|rtps)_[0-9a-f]{16}")
_MAPPED_SEGMENT = re.compile(r" /dev/shm/(fast(?:dds|rtps)_[0-9a-f]{16})$", re.MULTILINE)


def remove_orphaned_segments(folder: Path = SHARED_MEMORY, min_age_s: float = MIN_AGE_S) -> int:
    """Remove this user's segments whose owner has ended.

    Args:
        folder: The folder of the shared memory. It may be missing.
        min_age_s: Smallest age of the lock in seconds.

    Returns:
        Number of freed bytes.
    """
    freed_bytes = 0
    with suppress(OSError):
        for name in os.listdir(folder):
            if match := _LOCK_NAME.fullmatch(name):
                freed_bytes += _remove_if_orphaned(folder / name, folder / match[1], min_age_s)
    return freed_bytes


def segments_of_this_process() -> list[str]:
    """Return the names of the segments that the middleware of this process has made or uses."""
    with suppress(OSError):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        return sorted({match[1] for match in _MAPPED_SEGMENT.finditer(maps)})
    return []


def remove_segments(names: Iterable[str], folder: Path = SHARED_MEMORY) -> int:
    """Remove segments of a process that is known to have ended, unless somebody holds their lock.

    Args:
        names: Return value of `segments_of_this_process` in the ended process.
        folder: The folder of the shared memory.

    Returns:
        Number of freed bytes.
    """
    wanted = [name for name in names if _SEGMENT_NAME.fullmatch(name)]
    return sum(_remove_if_orphaned(folder / f"{name}_el", folder / name, 0.0) for name in wanted)


def _remove_if_orphaned(lock: Path, segment: Path, min_age_s: float) -> int:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        facts = os.fstat(descriptor)
        if facts.st_uid != os.getuid() or time.time() - facts.st_mtime < min_age_s:
            return 0
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        freed_bytes = segment.lstat().st_size if segment.exists() else 0
        segment.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
    except OSError:  # the lock is held, so the owner is alive
        return 0
    finally:
        os.close(descriptor)
    return freed_bytes
