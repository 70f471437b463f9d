"""Which process serves which cameras: processes start, end, let go and take over in any order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ros_kd_perception.scheduling.restart_pace import MANY_ENDS, PAUSE_S, WINDOW_S, RestartPace
from ros_kd_perception.scheduling.worker_groups import WorkerGroups

LATER_S = 100.0


class Told:
    """What processes 1, 2, 3 ... were told."""

    def __init__(self, *groups: Sequence[str]) -> None:
        self.orders: list[tuple[str, int, int]] = []
        self.groups: WorkerGroups[int] = WorkerGroups(
            groups,
            lambda link, number, cameras: self.orders.append(("serve", link, number)),
            lambda link, number: self.orders.append(("release", link, number)),
        )

    def start(self, *links: int, now_s: float = 0.0) -> None:
        for link in links:
            self.groups.add(link)
            self.groups.deal(now_s)
            self.obey(now_s)

    def end(self, *links: int, now_s: float = LATER_S) -> list[str]:
        lost = [camera for link in links for camera in self.groups.remove(link, now_s)]
        self.groups.deal(now_s)
        self.obey(now_s)
        return lost

    def obey(self, now_s: float = LATER_S) -> None:
        while self.orders:
            order, link, number = self.orders.pop(0)
            if order == "serve":
                self.groups.serving(link, number)
            else:
                self.groups.released(link, number, now_s)

    def served_by(self, *cameras: str) -> list[int | None]:
        return [self.groups.link_of(camera) for camera in cameras]


def test_each_group_gets_a_process_and_the_last_one_stands_by() -> None:
    told = Told(["front", "right"], ["left"])
    assert told.groups.unserved == ["front", "right", "left"]
    told.start(1)
    assert told.served_by("front", "right", "left") == [1, 1, None]  # the next one is about to start
    told.start(2, 3)
    assert told.served_by("front", "right", "left") == [1, 1, 2]
    assert (told.groups.unserved, told.groups.of(3)) == ([], [])
    with pytest.raises(KeyError):
        told.groups.link_of("rear")


def test_the_one_that_stands_by_takes_over_and_then_others() -> None:
    told = Told(["front"], ["left"])
    told.start(1, 2, 3)
    assert told.end(1) == ["front"]
    assert told.served_by("front", "left") == [3, 2]
    assert told.end(2, now_s=LATER_S + 10) == ["left"]
    assert told.served_by("front", "left") == [3, 3]
    told.start(4, now_s=LATER_S + 20)
    assert sorted(told.served_by("front", "left")) == [3, 4]  # one group moves to the new process
    assert not told.groups.unserved
    assert told.end(3, 4, now_s=LATER_S + 30)
    assert told.groups.unserved == ["front", "left"]
    told.start(5, now_s=LATER_S + 40)
    assert told.served_by("front", "left") == [5, 5]


def test_a_group_whose_processes_end_soon_takes_no_other_group_along() -> None:
    told = Told(["front"], ["left"])
    told.start(1, 2, 3)
    assert told.end(1) == ["front"]
    assert told.end(3, now_s=LATER_S + 0.1) == ["front"]  # once may be bad luck
    assert told.served_by("front", "left") == [2, 2]
    assert told.end(2, now_s=LATER_S + 0.2) == ["front", "left"]
    told.start(4, now_s=LATER_S + 1)
    told.start(5, now_s=LATER_S + 1)
    assert {*told.served_by("front", "left")} == {4, 5}
    culprit = told.groups.link_of("front")
    assert culprit is not None
    told.end(culprit, now_s=LATER_S + 1.1)
    assert told.served_by("front") == [None]  # the other process serves on
    assert told.groups.link_of("left") in (4, 5)
    told.groups.deal(LATER_S + 1.1 + WINDOW_S)
    assert told.served_by("front") != [None]


def test_no_other_group_joins_one_whose_processes_end_soon() -> None:
    told = Told(["front"], ["left"], ["rear"], ["right"])
    told.start(1, 2, 3, 4, 5)
    for ends, starts in ((1, 6), (5, 7), (6, 8)):  # the images of front end each process that takes them
        told.end(ends, now_s=LATER_S + ends / 10)
        told.start(starts, now_s=LATER_S + ends / 10)
    told.end(8, now_s=LATER_S + 1)  # the one that stands by
    assert told.served_by("front", "left", "rear", "right") == [7, 2, 3, 4]
    # The processes of two others end while none stands by.
    told.end(2, now_s=LATER_S + 2)
    told.end(4, now_s=LATER_S + 3)
    assert told.served_by("front", "left", "rear", "right") == [7, 3, 3, 3]
    told.end(3, now_s=LATER_S + 4)
    assert told.served_by("front", "left", "rear", "right") == [7, None, None, None]  # until the next one has started


@pytest.mark.parametrize("ends_first", [1, 4])
def test_an_end_during_a_move_loses_no_group(ends_first: int) -> None:
    told = Told(["front"], ["left"])
    told.start(1, 2)
    told.end(2)
    assert told.served_by("front", "left") == [1, 1]
    told.groups.add(4)
    told.groups.deal(LATER_S + 10)
    assert told.orders == [("release", 1, 1)]
    told.groups.remove(ends_first, LATER_S + 10)
    told.groups.deal(LATER_S + 10)
    told.obey(LATER_S + 10)
    told.groups.deal(LATER_S + 10)
    told.obey(LATER_S + 10)
    survivor = 5 - ends_first
    assert told.served_by("front", "left") == [survivor, survivor]
    assert not told.groups.unserved


def test_a_pause_after_many_ends_that_came_soon() -> None:
    pace = RestartPace()
    for number in range(MANY_ENDS):
        assert not pace.must_wait(number)
        pace.note_end(number)
    last_s = MANY_ENDS - 1.0
    assert pace.must_wait(last_s)
    assert not pace.must_wait(last_s + PAUSE_S)
    pace.note_end(last_s + PAUSE_S)
    assert pace.must_wait(last_s + PAUSE_S + 1)
    assert pace.lately(last_s + WINDOW_S + PAUSE_S - 0.1) == 1
    for number in range(100):
        pace.note_end(1000.0 + number, worked_s=10.0)
    assert not pace.must_wait(1100.0)
    assert pace.ended == MANY_ENDS + 1 + 100


class AnyOrder(RuleBasedStateMachine):
    """Processes obey late, and end at any moment."""

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.told = Told(*([f"camera {number}"] for number in range(count)))
        self.count = count
        self.now_s = 0.0
        self.up: list[int] = []
        self.started = 0

    @rule()
    def start_one(self) -> None:
        if len(self.up) <= self.count:
            self.started += 1
            self.up.append(self.started)
            self.told.groups.add(self.started)
            self.told.groups.deal(self.now_s)

    @rule(data=st.data())
    def end_one(self, data: st.DataObject) -> None:
        if self.up:
            link = data.draw(st.sampled_from(self.up))
            self.up.remove(link)
            self.told.orders = [order for order in self.told.orders if order[1] != link]
            self.told.groups.remove(link, self.now_s)
            self.told.groups.deal(self.now_s)

    @rule(data=st.data())
    def one_obeys(self, data: st.DataObject) -> None:
        if self.told.orders:
            link = data.draw(st.sampled_from([order[1] for order in self.told.orders]))
            order = next(order for order in self.told.orders if order[1] == link)
            self.told.orders.remove(order)
            if order[0] == "serve":
                self.told.groups.serving(link, order[2])
            else:
                self.told.groups.released(link, order[2], self.now_s)
            self.told.groups.deal(self.now_s)

    @rule(seconds=st.floats(0.1, 60))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.told.groups.deal(self.now_s)

    @invariant()
    def only_processes_that_are_up_serve(self) -> None:
        for number in range(self.count):
            assert self.told.groups.link_of(f"camera {number}") in (None, *self.up)

    def teardown(self) -> None:
        if not hasattr(self, "told"):
            return
        # Whatever happened: with all processes up, each group has one of its own.
        self.now_s += WINDOW_S
        self.told.obey(self.now_s)
        while len(self.up) <= self.count:
            self.start_one()
        for _ in range(self.count + 1):
            self.told.groups.deal(self.now_s)
            self.told.obey(self.now_s)
        assert self.told.groups.unserved == []
        assert len({self.told.groups.link_of(f"camera {number}") for number in range(self.count)}) == self.count


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
