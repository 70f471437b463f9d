"""Turns of the tests in a run of several workers: a test marked `alone` runs while no other test does.

Each test holds the lock `running` while it runs: shared with other tests, or alone. A test waits for it with the lock
`next` in its hand, so that no test begins before one that waits to run alone.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, alone: bool) -> Iterator[None]:
    """Wait for the turn of a test and hold it.

    Args:
        folder: one folder for all workers of a run.
        alone: no other test runs meanwhile.
    """
    with ExitStack() as running:
        with _locked(folder / "next.lock", fcntl.LOCK_EX):
            running.enter_context(_locked(folder / "running.lock", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("w") as file:  # closing it lets go of the lock, and so does the end of a worker
        fcntl.flock(file, kind)
        yield
