"""DiskReserve: reserves disk space for the end of a file, so that the file can be completed on a full disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_STEP_BYTES = 1 << 20


class DiskReserve:
    """Reserves disk space with a file, until `give_up` removes it.

    Args:
        path: Path of the file, which is created. It must be on the disk whose space is reserved.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Reserve at least `size_bytes` in total.

        Raises:
            OSError: There is not enough space left.
        """
        if self._file is None or size_bytes <= self._held_bytes:
            return
        more = -(-(size_bytes - self._held_bytes) // _STEP_BYTES) * _STEP_BYTES
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file, self._held_bytes, more)
        self._held_bytes += more

    def give_up(self) -> None:
        """Free the reserved space. Later calls of `hold` do nothing."""
        descriptor, self._file = self._file, None
        if descriptor is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(descriptor)
