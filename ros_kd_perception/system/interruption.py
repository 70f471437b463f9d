"""Ends a command cleanly on SIGINT and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal has asked the process to end. The handler of a signal may set it.

    `threading.Event` must not be set by a handler: it takes a lock, which the thread that the handler interrupts may
    hold at that moment. The process would then never end (seen with a node that was told to end).
    """

    def __init__(self) -> None:
        self._is_set = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        """Return whether the process was asked to end."""
        return self._is_set

    def set(self) -> None:
        """Ask the process to end. It waits for nothing. Only the main thread may call it, in which all handlers run."""
        if not self._is_set:  # a second signal may come here before the next line has run
            self._is_set = True
            self._gate.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process is asked to end, `timeout_s` seconds at most, and return `is_set`."""
        if self._gate.acquire(timeout=max(0.0, timeout_s)):
            self._gate.release()  # for the next thread that waits
        return self._is_set


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the `with` block on the first SIGINT or SIGTERM. Ignore later ones during clean-up."""

    def interrupt(*_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(number, interrupt) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def delayed_interrupt() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait for the end of the `with` block. Only the main thread can; others need not.

    A mask of signals is not enough: the kernel gives a signal to any thread that does not block it, and handlers run in
    the main thread all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = [signal.signal(number, lambda came, _: waiting.append(came)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


@contextmanager
def begun_output() -> Iterator[ExitStack]:
    """Begin an output under its temporary name, wholly or not at all.

    An object whose constructor is interrupted never gets to the clean-up of its own `with` block. So SIGINT and SIGTERM
    wait for the end of this one. After them, and after an error, the calls on the stack remove what was made: push each
    as soon as there is something to remove. Let nothing follow the block, and keep slow work out of it.
    """
    with ExitStack() as undo:
        with delayed_interrupt():
            yield undo
        undo.pop_all()
