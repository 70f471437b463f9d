"""Runs work at the lowest priority, so that perception comes first.

A thread that has lowered its priority cannot raise it again, and the threads that it starts inherit it. An ONNX Runtime
session starts its own threads when it is opened, so open it at normal priority and only run it here.
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
    """Set the nice value of the calling thread. On Linux each thread has its own. Do nothing without os.setpriority."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def be_first_when_memory_runs_out() -> None:
    """Make the kernel kill this process first when memory runs out. Linux only. Children inherit the setting.

    ONNX Runtime's shape inference and TensorRT's constant folding can use any amount of memory and have no limit.
    """
    with suppress(OSError):
        _OUT_OF_MEMORY_SCORE.write_text("1000", encoding="ascii")


def run_at_low_priority(function: Callable[[], ResultT]) -> ResultT:
    """Call a function in a thread of the lowest priority. Wait for it and return its result or raise its exception."""
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
