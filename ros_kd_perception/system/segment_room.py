"""Room for the shared memory segments of Fast DDS, which sets the whole size of one aside when a process starts.

Where that fails, as in a container with 64 MiB of /dev/shm, the process goes on without shared memory, and large images
are lost.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ros_kd_perception.system.orphaned_memory import SHARED_MEMORY, remove_orphaned_segments

OVERHEAD = 1.05
"""What Fast DDS sets aside for a segment, as a multiple of its size: 35.1 MB for 32 MiB."""
PROCESS_BYTES = 1 << 20
"""Beside its segment: ports, and a segment of half a megabyte for discovery."""


class NoSharedMemory(ValueError):
    """Images cannot be handed over in shared memory on this machine; the text says why."""


def room_bytes(segment_bytes: int) -> int:
    """Shared memory that a process takes whose segment has this size."""
    return round(segment_bytes * OVERHEAD) + PROCESS_BYTES


def fitting_segment_bytes(free_bytes: int, processes: int) -> int:
    """Size of the segments of so many processes that fit together; negative if not even empty ones do."""
    return int((free_bytes / processes - PROCESS_BYTES) / OVERHEAD)


def free_bytes(folder: Path = SHARED_MEMORY) -> int:
    """Bytes that new segments can take, once those of killed processes are removed.

    Args:
        folder: where shared memory is.

    Raises:
        NoSharedMemory: this user cannot make a segment there, however small.
    """
    remove_orphaned_segments(folder)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise NoSharedMemory(f"{folder} cannot be written to")
    return shutil.disk_usage(folder).free
