"""Have `ros2 launch` end with 1 when a process of the launch files failed: by itself it ends with 0 then, too.

The launch system knows two exit statuses: 1 where an exception came up, else 0. It does not look at those of its
processes. An exception raised in a handler would take down everything that is launched beside, a whole vehicle where
perception.launch.py is included. What is reported to the exception handler of its event loop counts for the status and
changes nothing else. This module needs no ROS, and so it is tested without.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Protocol

_INTERRUPTED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)
"""How a process ends that was told to: by the signal itself while it still starts, by a status that says so after."""


class Exit(Protocol):
    """What is read of `launch.events.process.ProcessExited`."""

    process_name: str
    returncode: int


class Context(Protocol):
    """What is used of `launch.LaunchContext`."""

    is_shutdown: bool
    asyncio_loop: asyncio.AbstractEventLoop


def report_failure(exited: Exit, context: Context) -> None:
    """Have the launch end with 1 if a process failed; a handler for `OnProcessExit`.

    A process that a signal ended while everything shuts down did what it was told.
    """
    if exited.returncode == 0 or (context.is_shutdown and exited.returncode in _INTERRUPTED):
        return
    report(f"{exited.process_name} failed with {status_text(exited.returncode)}, see what it wrote above", context)


def report_failure_at_shutdown(exited: Exit, context: Context) -> None:
    """Like `report_failure`, for a process that is started again when it dies before."""
    if context.is_shutdown:
        report_failure(exited, context)


def report_early_end(exited: Exit, context: Context) -> None:
    """Have the launch end with 1 if a process ended well, but before it was told to."""
    if exited.returncode == 0 and not context.is_shutdown:
        report(f"{exited.process_name} ended too early", context)


def report(sentence: str, context: Context) -> None:
    """Log a sentence as an error and have the launch end with 1; nothing is shut down by it."""
    context.asyncio_loop.call_exception_handler({"message": f"{sentence}; this launch will end with status 1"})


def status_text(returncode: int) -> str:
    """Name an exit status or, where it is negative, the signal that ended the process."""
    if returncode >= 0:
        return f"status {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"
