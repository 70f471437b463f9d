"""Makes `ros2 launch` exit with status 1 when a process of the launch files fails. By default it exits with 0.

The launch system exits with 1 after an exception and with 0 otherwise. It ignores the exit statuses of its processes.
Raising an exception in an event handler would also stop everything else in the launch, possibly a whole vehicle that
includes perception.launch.py. An error reported to the exception handler of the event loop sets the exit status and
changes nothing else. This module does not import ROS, so it can be tested without it.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Protocol

_INTERRUPTED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Return codes of an interrupted process: from the signal itself during startup, or a matching exit status later."""


class Exit(Protocol):
    """The part of `launch.events.process.ProcessExited` that this module uses."""

    process_name: str
    returncode: int


class Context(Protocol):
    """The part of `launch.LaunchContext` that this module uses."""

    is_shutdown: bool
    asyncio_loop: asyncio.AbstractEventLoop


def report_failure(exited: Exit, context: Context) -> None:
    """Make the launch exit with 1 if a process failed. Use it as a handler for `OnProcessExit`.

    A process that ends by a signal during shutdown has not failed.
    """
    if exited.returncode == 0 or (context.is_shutdown and exited.returncode in _INTERRUPTED):
        return
    report(f"{exited.process_name} failed with {status_text(exited.returncode)}, see what it wrote above", context)


def report_failure_at_shutdown(exited: Exit, context: Context) -> None:
    """Like `report_failure`, but only during shutdown. For a process that is restarted whenever it ends earlier."""
    if context.is_shutdown:
        report_failure(exited, context)


def report_early_end(exited: Exit, context: Context) -> None:
    """Make the launch exit with 1 if a process ended successfully, but before the shutdown."""
    if exited.returncode == 0 and not context.is_shutdown:
        report(f"{exited.process_name} ended too early", context)


def report(sentence: str, context: Context) -> None:
    """Log a sentence as an error and make the launch exit with 1. This does not shut anything down."""
    context.asyncio_loop.call_exception_handler({"message": f"{sentence}; this launch will end with status 1"})


def status_text(returncode: int) -> str:
    """Return an exit status as text or, if it is negative, the name of the signal that ended the process."""
    if returncode >= 0:
        return f"status {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"
