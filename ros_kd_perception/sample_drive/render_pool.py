"""Worker processes for rendering. They leave Ctrl-C to their parent, and each uses a single core."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool
from typing import Any

import cv2

from ros_kd_perception.system.interruption import SIGNALS, delayed_interrupt

MAX_PROCESSES = 256


def check_processes(processes: int) -> None:
    """Refuse a number of worker processes that no machine is asked for on purpose.

    Raises:
        ValueError: The number is out of range.
    """
    if not 1 <= processes <= MAX_PROCESSES:
        raise ValueError(f"expected 1 to {MAX_PROCESSES} worker processes, got {processes}")


@contextmanager
def render_pool(
    processes: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[Pool]:
    """Start worker processes afresh (spawn), and run `prepare(*arguments)` in each.

    At the end of the block they finish their jobs and end by themselves. At an error they are terminated.

    `prepare` must not be able to fail: the pool replaces a worker that ends with the error of its preparation by
    another one, without end. What can fail belongs into the jobs, whose errors reach the caller.
    """
    pool: Pool | None = None
    try:
        with delayed_interrupt():
            pool = _started(processes, prepare, arguments)
        yield pool
        pool.close()
        pool.join()
    finally:
        if pool is not None:
            pool.terminate()  # nothing is left to do for it after join


def _started(processes: int, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> Pool:
    # Ctrl-C goes to all processes of a terminal. One that comes before a worker has read what it is to do would leave
    # the traceback of the worker, so workers inherit a mask until they are ready.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return multiprocessing.get_context("spawn").Pool(processes, initializer=_start, initargs=(prepare, arguments))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A handler in Python runs when the main thread goes on, which may never be while it waits for a job. A library may
    # have set one, for example coverage; the pool would wait for this process without end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # workers inherit what their parent blocks
    cv2.setNumThreads(1)
    if prepare is not None:
        prepare(*arguments)
