"""Starts modules of this package as child processes, which end with the thread that started them."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def command(module: str, at_end: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return the command that runs `main` of a module of this package with this interpreter.

    Append the arguments of the module to it. `python -m` is not used, because it would import any `numpy.py` in the
    working directory.

    Args:
        module: Name of the module below `ros_kd_perception`, such as `candidates.check`.
        at_end: Signal that the child process gets when the thread that started it ends.
    """
    script = (
        "import sys; sys.path[:] = filter(None, sys.path); from ros_kd_perception.system.child_processes import run"
    )
    return [sys.executable, "-c", f"{script}; run({f'ros_kd_perception.{module}'!r}, {os.getpid()}, {int(at_end)})"]


def environment() -> dict[str, str]:
    """Return the environment of this process, with this package on PYTHONPATH."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def run(module: str, parent: int, at_end: int = signal.SIGKILL) -> None:
    """Run `main` of a module in the child process and exit with its status. Its arguments are in sys.argv."""
    end_with(parent, signal.Signals(at_end))
    sys.exit(importlib.import_module(module).main())


def end_with(parent: int, at_end: signal.Signals = signal.SIGKILL) -> None:
    """Make the kernel end this process when the thread of `parent` that started it ends. Linux only.

    A killed node cannot stop its children, and it also stops enforcing their limits of time and memory.
    """
    signal_when_parent_ends(at_end)
    if sys.platform == "linux" and os.getppid() != parent:  # the parent ended before the request
        os.kill(os.getpid(), signal.SIGKILL)


def signal_when_parent_ends(number: signal.Signals) -> None:
    """Make the kernel send this process a signal when the thread that started it ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
