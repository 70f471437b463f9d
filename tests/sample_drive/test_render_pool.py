"""The processes that render: they end by themselves, or at once at an error."""

from __future__ import annotations

import multiprocessing
import signal
import time

import pytest

from ros_kd_perception.sample_drive.render_pool import render_pool


def test_they_end_by_themselves_after_their_jobs() -> None:
    with render_pool(2) as pool:
        processes = multiprocessing.active_children()
        assert pool.map(abs, [-1, 2, -3]) == [1, 2, 3]

    assert [process.exitcode for process in processes] == [0, 0]


def test_they_end_at_once_at_an_error() -> None:
    processes = []

    def fail() -> None:
        with render_pool(1) as pool:
            processes.extend(multiprocessing.active_children())
            pool.apply_async(time.sleep, (600,))
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        fail()
    assert [process.exitcode for process in processes] == [-signal.SIGTERM]


def test_no_handler_of_a_library_is_in_the_way() -> None:
    with render_pool(1) as pool:
        assert pool.apply(signal.getsignal, (signal.SIGTERM,)) == signal.SIG_DFL
        assert pool.apply(signal.getsignal, (signal.SIGINT,)) == signal.SIG_IGN
