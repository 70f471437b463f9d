"""Computes whether the shared memory segments of Fast DDS fit. Fast DDS reserves a whole segment at process start.

If that fails, for example in a container with 64 MiB of /dev/shm, the process continues without shared memory and loses
large images.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ros_kd_perception.system.orphaned_memory import SHARED_MEMORY, remove_orphaned_segments

OVERHEAD = 1.05
"""Memory that Fast DDS reserves for a segment, as a multiple of its size: 35.1 MB for 32 MiB."""
PROCESS_BYTES = 1 << 20
"""Additional memory of a process: ports, and a segment of half a megabyte for discovery."""


class NoSharedMemory(ValueError):
    """Shared memory cannot be used on this machine. The text says why."""


def room_bytes(segment_bytes: int) -> int:
    """Return the shared memory of a process with a segment of this size."""
    return round(segment_bytes * OVERHEAD) + PROCESS_BYTES


def fitting_segment_bytes(free_bytes: int, processes: int) -> int:
    """Return the largest segment size at which all processes fit. It is negative if not even empty segments fit."""
    return int((free_bytes / processes - PROCESS_BYTES) / OVERHEAD)


def free_bytes(folder: Path = SHARED_MEMORY) -> int:
    """Remove segments of killed processes and return the free shared memory in bytes.

    Args:
        folder: The folder of the shared memory.

    Raises:
        NoSharedMemory: This user cannot create segments there.
    """
    remove_orphaned_segments(folder)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise NoSharedMemory(f"{folder} cannot be written to")
    return shutil.disk_usage(folder).free
