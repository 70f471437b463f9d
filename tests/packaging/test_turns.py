"""In a run with several workers, a test marked `alone` runs while no other test runs."""

from __future__ import annotations

import fcntl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from turns import turn

TIMEOUT_S = 30.0


def is_held(lock: Path) -> bool:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_tests_run_side_by_side(tmp_path: Path) -> None:
    with turn(tmp_path, alone=False), turn(tmp_path, alone=False):
        assert is_held(tmp_path / "running.lock")
    assert not is_held(tmp_path / "running.lock")


def test_a_test_that_runs_alone_waits_for_others_and_those_that_come_later_wait_for_it(tmp_path: Path) -> None:
    order = []

    def run(name: str, alone: bool) -> None:
        with turn(tmp_path, alone):
            order.append(name)

    with ThreadPoolExecutor(2) as pool:
        with turn(tmp_path, alone=False):
            waiting = pool.submit(run, "alone", True)
            give_up = time.monotonic() + TIMEOUT_S
            while not is_held(tmp_path / "next.lock"):
                assert time.monotonic() < give_up
            later = pool.submit(run, "later", False)
            with pytest.raises(TimeoutError):
                later.result(timeout=0.2)
            assert not waiting.done()
        waiting.result(TIMEOUT_S)
        later.result(TIMEOUT_S)
    assert order == ["alone", "later"]
