"""Signals: a request to end that waits for nothing, and an interrupt that waits for the end of a block."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from ros_kd_perception.system.interruption import SIGNALS, StopRequest, delayed_interrupt, one_interrupt

# Signals come at different moments of a wait. With an event of `threading` this hangs within a second.
SIGNALLED = """
import signal
from ros_kd_perception.system.interruption import StopRequest
for number in range(3000):
    stop = StopRequest()
    signal.signal(signal.SIGALRM, lambda *_: stop.set())
    signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + number % 40))
    while not stop.wait(1e-6):
        pass
print("ended")
"""


def test_a_signal_at_any_moment_of_a_wait_ends_it() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=120)
    assert done.stdout == "ended\n", done.stderr


def test_every_thread_that_waits_is_told() -> None:
    stop, told = StopRequest(), []
    threads = [threading.Thread(target=lambda: told.append(stop.wait(60))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert not stop.is_set()
    stop.set()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert told == [True, True, True]
    assert stop.is_set()
    assert stop.wait(0)


@pytest.mark.parametrize("timeout_s", [0.05, 0.0, -1.0])
def test_a_wait_without_a_request_takes_its_time(timeout_s: float) -> None:
    began_s = time.monotonic()
    assert not StopRequest().wait(timeout_s)
    assert time.monotonic() - began_s >= timeout_s


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    before, reached = [signal.getsignal(each) for each in SIGNALS], []

    def work() -> None:
        with one_interrupt(), delayed_interrupt():
            signal.raise_signal(number)
            reached.append("end of the block")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["end of the block"]
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_another_thread_than_the_main_one_delays_nothing() -> None:
    reached: list[str] = []

    def work() -> None:
        with delayed_interrupt():
            reached.append("block")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert reached == ["block"]
