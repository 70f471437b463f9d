"""A camera with a limit on its rate: so many of its messages are taken a second, each the newest when it is due."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_kd_perception.scheduling.mailbox import Mailbox

SECOND_NS = 10**9
START_NS = 10 * SECOND_NS


class Clock:
    """A steady clock that the test advances."""

    now_ns = START_NS

    def __call__(self) -> int:
        return self.now_ns


def limited(max_rate_hz: float, max_age_ms: float = 0.0) -> tuple[Clock, Mailbox[int]]:
    clock = Clock()
    mailbox: Mailbox[int] = Mailbox(["front", "left"], max_age_ms, clock)
    mailbox.set_max_rate("front", max_rate_hz)
    mailbox.open()
    return clock, mailbox


def take(mailbox: Mailbox[int], number: int) -> bool:
    """Take what may be taken. It must be the message of this number."""
    queued = mailbox.take_next()
    if queued is None:
        return False
    assert queued.message == number
    mailbox.published("front")
    return True


def taken_at(clock: Clock, mailbox: Mailbox[int], arrivals_ns: list[int]) -> list[int]:
    """Return when messages are taken by a consumer that wakes at each arrival and each due time."""
    times: list[int] = []
    for number, arrival_ns in enumerate(arrivals_ns):
        while (due_s := mailbox.due_in_s()) is not None and clock.now_ns + due_s * 1e9 <= arrival_ns:
            clock.now_ns += round(due_s * 1e9)
            times += [clock.now_ns] if take(mailbox, number - 1) else []
        clock.now_ns = arrival_ns
        mailbox.put("front", number)
        times += [clock.now_ns] if take(mailbox, number) else []
    return times


@pytest.mark.parametrize(
    ("camera_hz", "max_rate_hz", "expected_hz"),
    [(30, 10, 10), (30, 7, 7), (30, 29, 29), (12, 10, 10), (30, 0.5, 0.5), (10, 30, 10), (30, 30, 30), (30, 0, 30)],
)
@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_the_rate_is_the_limit_or_that_of_a_slower_camera(
    camera_hz: float, max_rate_hz: float, expected_hz: float, jitter: float
) -> None:
    rng, seconds = random.Random(1), 20
    period_ns = SECOND_NS / camera_hz
    arrivals_ns = [START_NS + round((n + jitter * rng.random()) * period_ns) for n in range(round(seconds * camera_hz))]
    clock, mailbox = limited(max_rate_hz)
    times = taken_at(clock, mailbox, arrivals_ns)
    assert abs(len(times) - expected_hz * seconds) <= 1
    counts = mailbox.counts()["front"]
    assert counts.received == len(arrivals_ns) == counts.published + sum(counts.dropped.values()) + counts.waiting
    assert set(counts.dropped) <= {"over_rate"}


@given(st.lists(st.integers(0, 300_000_000), min_size=2, max_size=60), st.sampled_from([3.0, 10.0, 50.0]))
@settings(deadline=None, max_examples=60)
def test_there_are_no_bursts_whenever_messages_come(gaps_ns: list[int], max_rate_hz: float) -> None:
    arrivals_ns, now_ns = [], START_NS
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        arrivals_ns.append(now_ns)
    times = taken_at(*limited(max_rate_hz), arrivals_ns)
    for first in range(len(times)):
        for last in range(first + 1, len(times)):
            assert times[last] - times[first] > (last - first - 1) * int(SECOND_NS / max_rate_hz)


def test_a_camera_that_is_not_due_leaves_its_turn_to_the_others() -> None:
    clock, mailbox = limited(10)
    for camera in ("front", "left"):
        mailbox.put(camera, 1)
    assert {mailbox.take(0).camera for _ in range(2)} == {"front", "left"}  # type: ignore[union-attr]
    mailbox.put("front", 2)
    assert not mailbox.waits()
    assert mailbox.take_next() is None
    assert mailbox.due_in_s() == pytest.approx(0.1)
    assert mailbox.due_in_s({"front"}) is None
    mailbox.put("left", 2)
    assert mailbox.waits()
    clock.now_ns += SECOND_NS // 10
    assert mailbox.due_in_s() is None
    assert {mailbox.take(0).camera for _ in range(2)} == {"front", "left"}  # type: ignore[union-attr]


def test_a_message_that_was_due_and_is_replaced_counts_as_replaced() -> None:
    clock, mailbox = limited(10)
    mailbox.put("front", 1)
    mailbox.put("front", 2)
    assert take(mailbox, 2)
    mailbox.put("front", 3)
    mailbox.put("front", 4)
    clock.now_ns += SECOND_NS
    mailbox.put("front", 5)  # the fourth is left out only because the consumer was late
    mailbox.put("front", 6)
    assert mailbox.counts()["front"].dropped == {"replaced": 3, "over_rate": 1}


@pytest.mark.parametrize(("late_ms", "reason"), [(0, "over_rate"), (99, "over_rate"), (100, "replaced")])
def test_messages_that_were_missed_before_one_that_is_taken_in_time_count_as_over_rate(
    late_ms: int, reason: str
) -> None:
    clock, mailbox = limited(10)
    mailbox.put("front", 1)
    assert take(mailbox, 1)
    mailbox.count_missed("front", 2, "lost")
    mailbox.put("front", 2)
    clock.now_ns += SECOND_NS // 10 + late_ms * 10**6
    assert take(mailbox, 2)
    mailbox.count_missed("front", 3, "replaced")
    assert mailbox.counts()["front"].dropped == {"lost": 2, reason: 3}


def test_a_message_from_the_middleware_that_was_too_old_before_it_was_due_counts_as_over_rate() -> None:
    clock = Clock()
    mailbox: Mailbox[int] = Mailbox(["front"], 500.0, clock, renewed=True)
    mailbox.set_max_rate("front", 1.0)
    mailbox.open()
    mailbox.put("front", 1)
    assert take(mailbox, 1)
    for arrival_ms, taken_ms in ((300, 1000), (1300, 1900)):
        mailbox.put("front", 2)
        clock.now_ns = START_NS + taken_ms * 10**6
        queued = mailbox.take_next()
        assert queued is not None
        mailbox.drop_too_old(replace(queued, arrival_ns=START_NS + arrival_ms * 10**6))
    # The first one was too old when the camera was due. It is then due at once, and the second one is taken too late.
    assert mailbox.counts()["front"].dropped == {"over_rate": 1, "too_old": 1}


def test_a_message_that_grew_too_old_before_it_was_due_counts_as_over_rate() -> None:
    clock, mailbox = limited(1, max_age_ms=500)
    mailbox.put("front", 1)
    assert take(mailbox, 1)
    mailbox.put("front", 2)
    clock.now_ns += SECOND_NS
    assert mailbox.take_next() is None
    mailbox.put("front", 3)
    clock.now_ns += SECOND_NS
    assert mailbox.take_next() is None
    assert mailbox.counts()["front"].dropped == {"over_rate": 1, "too_old": 1}
    mailbox.put("front", 4)
    assert take(mailbox, 4)


def test_a_message_that_gives_way_to_a_newer_one_gives_its_due_time_back() -> None:
    _, mailbox = limited(10)
    mailbox.put("front", 1)
    assert mailbox.take(0) is not None
    mailbox.put("front", 2)
    assert mailbox.give_up_for_newer("front")
    assert take(mailbox, 2)
    mailbox.put("front", 3)
    assert mailbox.take_next() is None


@pytest.mark.parametrize("max_rate_hz", [0.0, 20.0])
def test_a_changed_limit_applies_at_once(max_rate_hz: float) -> None:
    _, mailbox = limited(1e-320)
    mailbox.put("front", 1)
    assert take(mailbox, 1)
    mailbox.put("front", 2)
    assert mailbox.take_next() is None
    assert mailbox.due_in_s() == pytest.approx(1e4)  # a limit that is next to zero does not overflow a timer
    announced: list[bool] = []
    mailbox.on_arrival = lambda: bool(announced.append(True))
    mailbox.set_max_rate("front", 1e-320)
    assert not announced
    mailbox.set_max_rate("front", max_rate_hz)
    assert announced
    assert take(mailbox, 2)


def test_a_consumer_wakes_when_a_camera_is_due() -> None:
    mailbox: Mailbox[int] = Mailbox(["front"])
    mailbox.set_max_rate("front", 10.0)
    mailbox.open()
    taken: list[float] = []

    def take_two() -> None:
        for _ in range(2):
            if mailbox.take(30) is not None:
                taken.append(time.monotonic())
                first.set()

    first, taker = threading.Event(), threading.Thread(target=take_two)
    mailbox.put("front", 1)
    taker.start()
    assert first.wait(30)
    mailbox.put("front", 2)
    taker.join(30)
    assert len(taken) == 2
    assert 0.09 < taken[1] - taken[0] < 20
