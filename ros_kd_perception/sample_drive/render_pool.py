"""Worker processes for rendering. They leave Ctrl-C to their parent, and each uses a single core."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.pool import Pool
from typing import Any

import cv2


def render_pool(processes: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> Pool:
    """Start worker processes afresh (spawn) and run `prepare(*arguments)` in each; use it as a context manager."""
    context = multiprocessing.get_context("spawn")
    return context.Pool(processes, initializer=_start, initargs=(prepare, arguments))


def _start(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    if prepare is not None:
        prepare(*arguments)
