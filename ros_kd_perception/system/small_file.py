"""Reads a small file at once, whatever somebody put in its place: a pipe, a device, a file without end."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_small_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file. Links are followed. Never waits for a writer.

    Args:
        path: The file.
        max_bytes: Largest size.

    Raises:
        OSError: It is missing or unreadable.
        ValueError: It is not a regular file, or larger. The text goes on after "expected PATH".
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("to be a regular file, it is a folder, pipe or device")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"to hold at most {max_bytes} bytes, it holds more")
    return content
