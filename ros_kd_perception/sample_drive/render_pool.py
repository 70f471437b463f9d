"""Worker processes for rendering. They leave Ctrl-C to their parent, and each uses a single core."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.pool import Pool
from typing import Any

import cv2

MAX_PROCESSES = 256
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}


def check_processes(processes: int) -> None:
    """Refuse a number of worker processes that no machine is asked for on purpose.

    Raises:
        ValueError: The number is out of range.
    """
    if not 1 <= processes <= MAX_PROCESSES:
        raise ValueError(f"expected 1 to {MAX_PROCESSES} worker processes, got {processes}")


def render_pool(processes: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> Pool:
    """Start worker processes afresh (spawn) and run `prepare(*arguments)` in each; use it as a context manager.

    `prepare` must not be able to fail: the pool replaces a worker that ends with the error of its preparation by
    another one, without end. What can fail belongs into the jobs, whose errors reach the caller.
    """
    context = multiprocessing.get_context("spawn")
    # An interrupt between the start of a worker and the data that it is to read would leave its traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        pool = context.Pool(processes, initializer=_start, initargs=(prepare, arguments))
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # an interrupt that waited arrives here
    except BaseException:
        pool.terminate()
        raise
    return pool


def _start(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)  # workers inherit what their parent blocks
    cv2.setNumThreads(1)
    if prepare is not None:
        prepare(*arguments)
