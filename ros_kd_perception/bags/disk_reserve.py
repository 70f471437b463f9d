"""DiskReserve: room on a disk that is held for the end of a file, so that the end fits when the disk is full."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_STEP_BYTES = 1 << 20


class DiskReserve:
    """A file that takes up room until it is given up.

    Args:
        path: of the file, which is made; on the disk that it is about.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Hold at least so much.

        Raises:
            OSError: there is not so much left.
        """
        if self._file is None or size_bytes <= self._held_bytes:
            return
        more = -(-(size_bytes - self._held_bytes) // _STEP_BYTES) * _STEP_BYTES
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file, self._held_bytes, more)
        self._held_bytes += more

    def give_up(self) -> None:
        """Make the room free; nothing is held from then on."""
        descriptor, self._file = self._file, None
        if descriptor is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(descriptor)
