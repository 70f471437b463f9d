"""A child process with a log, that can be waited for, and that never outlives its parent."""

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
    """A child process ended, or did not get ready; the text ends with the last lines of its log."""


class ChildProcess:
    """One child in a process group of its own, writing to a log file; leaving the context ends it.

    A group of its own keeps the terminal's Ctrl-C away from it: the parent decides who ends when.

    Args:
        name: what to call it in errors.
        command: program and arguments.
        environment: its whole environment.
        log: file for its standard output and error.
        urgency: how much its niceness is lowered, where the user may do so (elsewhere it is as nice as any).
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
        """Exit status, None while it runs."""
        return self._process.poll()

    def wait_for(self, condition: Callable[[], bool], what: str, limit_s: float) -> None:
        """Wait until a condition holds, as long as the process runs.

        Raises:
            ChildFailed: it ended first, or `limit_s` is over.
        """
        give_up = time.monotonic() + limit_s
        while not condition():
            if self.exit_status is not None:
                raise self.failure(f"ended with exit status {self.exit_status} before {what}")
            if time.monotonic() > give_up:
                raise self.failure(f"was not there after {limit_s:g} s: {what}")
            time.sleep(0.05)

    def wait_for_line(self, text: str, limit_s: float) -> None:
        """Wait until its log holds a text."""
        self.wait_for(lambda: text in self.tail(), f"its log said {text!r}", limit_s)

    def stop(self, limit_s: float = 10.0) -> int:
        """End it: ask, insist, force. Returns the exit status."""
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
        """Last lines of its log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def failure(self, sentence: str) -> ChildFailed:
        """Make an error out of what happened and the last lines of the log."""
        log = self.tail(15).strip()
        return ChildFailed(f"the {self.name} {sentence}" + (f"; it said last:\n{log}" if log else ", without a word"))

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _prepare(urgency: int) -> None:
    """Run in the child before its program: die with the parent, and heed SIGINT even if the parent's shell does not."""
    signal_when_parent_ends(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if urgency:
        with suppress(PermissionError):
            os.nice(-urgency)
