"""WorkerLink: one worker process as the node sees it, from its start to its end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from ros_kd_perception.system import child_processes
from ros_kd_perception.system.message_channel import ChannelClosed, MessageChannel

_END_TIMEOUT_S = 3.0
_KILL_TIMEOUT_S = 2.0
_EXIT_S = 0.2


class WorkerLink:
    """A worker process and the connection to it.

    Create it in a thread that lives as long as the process should: the kernel tells the process when that thread ends.

    Attributes:
        number: Number of the process, from 1 on, never used twice.
        is_greeted: Whether it was told the state of the node. Later changes reach it in order.
        is_up: Whether it has started and can serve cameras.
        up_s: Steady clock when it had started.
        silent_s: Seconds since its last message, as far as this process could hear one.
        pinged_s: Steady clock of the last question for its statuses.
        statuses: Its latest statuses, as it sent them.
        segments: Names of its segments of the middleware's shared memory.

    Args:
        module: Module below `ros_kd_perception` whose `main` it runs. It gets the number of a socket as its argument.
        number: Its number.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(self, module: str, number: int) -> None:
        self.number = number
        self.is_greeted = self.is_up = False
        self.up_s = self.silent_s = self.pinged_s = 0.0
        self.statuses: list[dict[str, Any]] = []
        self.segments: list[str] = []
        self.channel, theirs = MessageChannel.pair()
        try:
            self._process = subprocess.Popen(
                [*child_processes.command(module, signal.SIGTERM), str(theirs.fileno())],
                env=child_processes.environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the node's process, which ends this one
            )
        except OSError:
            self.channel.close()
            raise
        finally:
            theirs.close()

    @property
    def process_id(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, kind: str, descriptor: int | None = None, **fields: Any) -> None:
        """Send a message.

        Raises:
            ChannelClosed: The process has ended or does not read.
        """
        self.channel.send(kind, descriptor, **fields)

    def try_send(self, kind: str, descriptor: int | None = None, **fields: Any) -> bool:
        """Send a message. Return False if the process has ended, which its owner notices by itself."""
        try:
            self.channel.send(kind, descriptor, **fields)
        except ChannelClosed:
            return False
        return True

    def end_now(self) -> None:
        """End the process at once, if it has not ended. The connection shows its end to the thread that listens."""
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_TIMEOUT_S)

    def kill(self) -> str:
        """End the process at once, if it has not ended, and close the connection. Return in words how it ended."""
        self.end_now()
        self.channel.close()
        return _ending(self._process.returncode)

    def exit_status_in_words(self) -> str:
        """Wait a moment for the end of a process whose connection has closed, and say how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_S)
        return self.kill()

    def begin_end(self) -> None:
        """Ask the process to end. One that does not know the node yet has nothing to remove and is ended."""
        if not self.is_greeted:
            self._process.kill()
        self.try_send("stop")

    def wait_for_end(self, deadline_s: float) -> None:
        """Wait until a time of the steady clock for the process to end, then end it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline_s - time.monotonic()))
        self.kill()


def end_all(links: Sequence[WorkerLink]) -> None:
    """Ask all processes to end, and end those that do not."""
    for link in links:
        link.begin_end()
    deadline_s = time.monotonic() + _END_TIMEOUT_S
    for link in links:
        link.wait_for_end(deadline_s)


def _ending(status: int | None) -> str:
    if status is None:
        return "cannot be ended: it hangs in the kernel"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"
