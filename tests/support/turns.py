"""Turns of the tests in a run with several workers: a test marked `alone` runs while no other test runs.

Each test holds the lock `running` while it runs: shared with other tests, or alone. A test holds the lock `next` while
it waits for `running`, so no test starts before one that waits to run alone.
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
        folder: One folder for all workers of a run.
        alone: Whether no other test may run at the same time.
    """
    with ExitStack() as running:
        with _locked(folder / "next.lock", fcntl.LOCK_EX):
            running.enter_context(_locked(folder / "running.lock", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("w") as file:  # closing the file releases the lock, and so does the end of a worker
        fcntl.flock(file, kind)
        yield
