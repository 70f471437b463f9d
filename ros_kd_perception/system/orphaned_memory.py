"""Remove the shared memory of Fast DDS processes that were killed: 32 MiB each, which nobody else ever frees.

A node that dies every few seconds and is started again would fill the machine's shared memory within minutes, and no
process could send images any more. Fast DDS keeps a lock (flock) on `<segment>_el` while the owner of a segment lives,
and its own tool `fastdds shm clean` judges by that, too.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
MIN_AGE_S = 10.0
"""Younger ones are left alone: their owner may be about to take the lock."""

# Version 3 renamed them. Not the ports (`fastdds_port7001`), which several processes share.
_LOCK_NAME = re.compile(r"(fast(?:dds|rtps)_[0-9a-f]{16})_el")


def remove_orphaned_segments(folder: Path = SHARED_MEMORY, min_age_s: float = MIN_AGE_S) -> int:
    """Remove segments of this user whose owner is gone.

    Args:
        folder: where they are; it need not exist.
        min_age_s: of the lock, seconds.

    Returns:
        Bytes that are free again.
    """
    freed_bytes = 0
    with suppress(OSError):
        for name in os.listdir(folder):
            if match := _LOCK_NAME.fullmatch(name):
                freed_bytes += _remove_if_orphaned(folder / name, folder / match[1], min_age_s)
    return freed_bytes


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
    except OSError:  # the lock is held: its owner lives
        return 0
    finally:
        os.close(descriptor)
    return freed_bytes
