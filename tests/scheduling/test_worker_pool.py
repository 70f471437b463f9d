"""The pool of worker processes, with real processes that do nothing else: who starts, ends, hangs and is replaced."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT

from ros_kd_perception.scheduling import restart_pace, worker_pool
from ros_kd_perception.scheduling.worker_link import WorkerLink
from ros_kd_perception.scheduling.worker_pool import WorkerPool, WorkersFailed
from ros_kd_perception.system import child_processes

STAND_IN = [sys.executable, str(ROOT / "tests" / "support" / "worker_stand_in.py")]


def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Rig:
    """A pool, and what it said."""

    def __init__(self, *groups: Sequence[str]) -> None:
        self.sentences: list[str] = []
        self.ends: list[tuple[int, list[str]]] = []
        self.pool = WorkerPool(
            "stand_in",
            groups,
            lambda link: link.try_send("begin"),
            lambda link, number, cameras: link.try_send("serve", group=number, cameras=list(cameras)),
            lambda link, message: None,
            lambda link, cameras, sentence: self.ends.append((link.process_id, list(cameras))),
            lambda: None,
            self.sentences.append,
        )

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        self.pool.start(cancelled)

    def process_of(self, camera: str) -> int | None:
        link = self.pool.link_of(camera)
        return None if link is None else link.process_id

    def is_full(self, processes: int) -> bool:
        facts = self.pool.facts()
        return (facts["processes"], facts["standing_by"], facts["unserved_cameras"]) == (str(processes), "1", "")

    @property
    def process_ids(self) -> list[int]:
        return [int(word) for word in self.pool.facts()["process_ids"].split()]


Make = Callable[..., Rig]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(child_processes, "command", lambda *_: STAND_IN)
    rigs: list[Rig] = []

    def make(*groups: Sequence[str]) -> Rig:
        rigs.append(Rig(*groups))
        return rigs[-1]

    yield make
    for rig in rigs:
        processes = rig.process_ids
        rig.pool.stop()
        assert not any(Path(f"/proc/{process}").exists() for process in processes)


def test_one_that_is_killed_is_replaced_by_the_one_that_stands_by(make: Make) -> None:
    rig = make(["front", "right"], ["left"])
    rig.start()
    until(lambda: rig.is_full(2))
    killed = rig.process_of("front")
    assert killed is not None
    assert killed == rig.process_of("right") != rig.process_of("left")
    os.kill(killed, signal.SIGKILL)
    until(lambda: rig.process_of("front") not in (killed, None))
    until(lambda: rig.is_full(2))
    assert rig.ends == [(killed, ["front", "right"])]
    assert rig.sentences == [
        f"worker process {killed} was ended by SIGKILL; its cameras front, right go to another one"
    ]


def test_a_hung_one_is_ended_and_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "HANG_S", 1.5)
    monkeypatch.setattr(worker_pool, "PING_PERIOD_S", 0.3)
    rig = make(["front"])
    rig.start()
    until(lambda: rig.is_full(1))
    hung = rig.process_of("front")
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)
    until(lambda: rig.process_of("front") != hung)
    until(lambda: rig.is_full(1))
    assert [process for process, _ in rig.ends] == [hung]
    assert "hung for 1.5 s and was ended by SIGKILL" in rig.sentences[0]


def test_a_camera_that_ends_each_process_costs_the_others_none_for_long(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_pace, "PAUSE_S", 1.0)
    rig = make(["front"], ["left"])
    rig.start()
    until(lambda: rig.is_full(2))
    rig.pool._groups._groups[1].cameras = ("left", "bad")
    left = rig.process_of("left")
    assert left is not None
    os.kill(left, signal.SIGKILL)
    until(lambda: any("end again and again" in sentence for sentence in rig.sentences))
    assert sum("front" in cameras for _, cameras in rig.ends) <= 1
    until(lambda: "front" not in rig.pool.facts()["unserved_cameras"])
    process = rig.process_of("front")
    ended = len(rig.ends)
    until(lambda: len(rig.ends) > ended + 1)
    assert rig.process_of("front") == process
    assert "ended with exit status 7" in " ".join(rig.sentences)


def test_a_start_that_cannot_succeed_is_refused_and_leaves_no_process(make: Make) -> None:
    for groups, words in (([["refused"]], "a camera that can be served"), ([["bad"]], "end again and again")):
        rig = make(*groups)
        with pytest.raises(WorkersFailed, match=words):
            rig.start()
    rig = make(["front"])
    with pytest.raises(WorkersFailed, match="cancelled"):
        rig.start(lambda: True)


def test_a_process_that_cannot_be_made_is_refused_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(WorkerLink, "__init__", refuse)
    started_s = time.monotonic()
    with pytest.raises(WorkersFailed, match="expected to start 2 worker processes, got: Too many open files"):
        make(["front"]).start()
    assert time.monotonic() - started_s < 10


def test_a_pool_that_stops_ends_those_that_start_and_those_that_are_stopped(make: Make) -> None:
    rig = make(["front"])
    rig.start()
    until(lambda: rig.is_full(1))
    first, second = rig.process_ids
    os.kill(first, signal.SIGSTOP)
    os.kill(second, signal.SIGKILL)
    until(lambda: {*rig.process_ids} - {first, second})  # a new one, which starts
