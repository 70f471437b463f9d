"""Child processes of the node: our modules alone, and no longer than the thread that started them."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def command(module: str) -> list[str]:
    """What starts `main` of one of our modules with this interpreter; arguments follow.

    Not `python -m`, which would look for every module in the working directory first: a `numpy.py` there is nobody's
    business.
    """
    script = (
        "import sys; sys.path[:] = filter(None, sys.path); from ros_kd_perception.system.child_processes import run"
    )
    return [sys.executable, "-c", f"{script}; run({f'ros_kd_perception.{module}'!r}, {os.getpid()})"]


def environment() -> dict[str, str]:
    """That of this process, with this package to be found."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def run(module: str, parent: int) -> None:
    """The child: runs `main` of a module, which has its arguments in sys.argv, and ends with it."""
    end_with(parent)
    sys.exit(importlib.import_module(module).main())


def end_with(parent: int) -> None:
    """Have the kernel end this process when the thread of `parent` that started it ends; Linux only.

    A node that is killed can end nobody, and limits of time and memory that it was to keep would end with it.
    """
    signal_when_parent_ends(signal.SIGKILL)
    if sys.platform == "linux" and os.getppid() != parent:  # it was gone before this was asked for
        os.kill(os.getpid(), signal.SIGKILL)


def signal_when_parent_ends(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when the thread that started it ends; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
