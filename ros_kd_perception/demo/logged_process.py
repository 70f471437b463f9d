"""A child process that writes a log, can be waited for, and ends with its parent."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ros_kd_perception.system.child_processes import signal_when_parent_ends

_TAIL_BYTES = 64 * 1024


class ChildFailed(RuntimeError):
    """A child process ended, or was not ready in time; the text ends with the last lines of its log."""


class ChildProcess:
    """A child process that writes to a log file. Leaving the context stops it.

    It runs in a process group of its own, so the terminal's Ctrl-C does not reach it: the parent decides which process
    ends when.

    Args:
        name: Name of the process in errors.
        command: Program and arguments.
        environment: All of its environment variables.
        log: File for its standard output and standard error.
        urgency: How much its niceness is lowered. Ignored if the user may not do so.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, urgency: int = 0
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=functools.partial(_prepare, urgency),
            )

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def exit_status(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    def wait_for(self, condition: Callable[[], bool], what: str, limit_s: float) -> None:
        """Wait until a condition holds while the process runs.

        Raises:
            ChildFailed: The process ended first, or `limit_s` has passed.
        """
        give_up = time.monotonic() + limit_s
        while not condition():
            if self.exit_status is not None:
                raise self.failure(f"ended with exit status {self.exit_status} before {what}")
            if time.monotonic() > give_up:
                raise self.failure(f"was not there after {limit_s:g} s: {what}")
            time.sleep(0.05)

    def wait_for_line(self, text: str, limit_s: float) -> None:
        """Wait until its log contains a text."""
        self.wait_for(lambda: text in self.tail(), f"its log had {text!r}", limit_s)

    def stop(self, limit_s: float = 10.0) -> int:
        """Stop the process with SIGINT, then SIGTERM, then SIGKILL. Return its exit status."""
        for number, patience_s in ((signal.SIGINT, limit_s), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            if self._process.poll() is not None:
                break
            self._signal_group(number)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
        return self._process.wait()

    def tail(self, lines: int = 1000) -> str:
        """Return the last lines of its log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def failure(self, sentence: str) -> ChildFailed:
        """Return an error with a sentence and the last lines of the log."""
        log = self.tail(15).strip()
        return ChildFailed(
            f"the {self.name} {sentence}" + (f"; end of its log:\n{log}" if log else "; its log is empty")
        )

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _prepare(urgency: int) -> None:
    """Prepare the child before its program starts.

    It ends with its parent, and reacts to SIGINT even if the parent ignores it.
    """
    signal_when_parent_ends(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if urgency:
        with suppress(PermissionError):
            os.nice(-urgency)
