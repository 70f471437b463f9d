"""The wait of an idle network: a wake-up is never lost and never seen twice."""

from __future__ import annotations

import threading
import time

from ros_kd_perception.scheduling.idle_wait import IdleWait


def test_a_wake_up_before_the_wait_ends_that_wait_at_once_and_no_other() -> None:
    waiting = IdleWait()
    waiting.wake()
    waiting.wake()  # it counts once
    waiting.wait(None)
    started_s = time.monotonic()
    waiting.wait(0.05)
    assert time.monotonic() - started_s >= 0.05


def test_a_wake_up_ends_a_wait_of_any_length() -> None:
    waiting = IdleWait()
    thread = threading.Thread(target=waiting.wait, args=(None,))
    thread.start()
    waiting.wake()
    thread.join(30)
    assert not thread.is_alive()


def test_a_wake_up_can_be_taken_back() -> None:
    waiting = IdleWait()
    assert not waiting.forget()
    waiting.wake()
    assert waiting.forget()
    assert not waiting.forget()
