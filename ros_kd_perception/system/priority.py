"""Work that must give way to perception: threads and processes at the lowest priority.

A thread that has lowered its priority cannot raise it again, and threads that it starts inherit it. So a session whose
own threads are to be fast later is opened elsewhere and only run here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

LOWEST = 19
_OUT_OF_MEMORY_SCORE = Path("/proc/self/oom_score_adj")

ResultT = TypeVar("ResultT")


def lower_this_thread(nice: int = LOWEST) -> None:
    """Give the calling thread a nice value, which on Linux is a thread's own; nothing happens elsewhere."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def be_first_when_memory_runs_out() -> None:
    """Have the kernel end this process rather than another one; Linux only, and children inherit it.

    ONNX Runtime's shape inference and TensorRT's folding take what a graph asks for, which no limit of theirs bounds.
    """
    with suppress(OSError):
        _OUT_OF_MEMORY_SCORE.write_text("1000", encoding="ascii")


def run_at_low_priority(function: Callable[[], ResultT]) -> ResultT:
    """Call a function in a thread of the lowest priority and wait for it; what it returns or raises comes back."""
    results: list[ResultT] = []
    errors: list[BaseException] = []

    def run() -> None:
        lower_this_thread()
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="low priority", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
