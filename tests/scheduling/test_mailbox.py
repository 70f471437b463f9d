"""The mailbox: it keeps the newest message, gives fair turns and counts every message."""

import threading
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.structures import DROP_REASONS


class Clock:
    """A steady clock that the test advances."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


def open_mailbox(*cameras: str, max_age_ms: float = 0.0, clock: Clock | None = None) -> Mailbox[str]:
    mailbox: Mailbox[str] = Mailbox(cameras, max_age_ms, clock or Clock())
    mailbox.open()
    return mailbox


def test_the_newest_message_of_a_camera_replaces_the_waiting_one() -> None:
    clock = Clock()
    mailbox = open_mailbox("front", clock=clock)
    for message in ("first", "second", "third"):
        clock.now_ns += 10
        mailbox.put("front", message)
    queued = mailbox.take(0)
    assert queued is not None
    assert (queued.camera, queued.message, queued.arrival_ns) == ("front", "third", 1_030)
    assert mailbox.take(0) is None
    assert mailbox.counts()["front"].dropped == {"replaced": 2}


def test_turns_are_fair_when_one_camera_floods() -> None:
    mailbox = open_mailbox("front", "left", "rear")
    served: Counter[str] = Counter()
    for turn in range(300):
        mailbox.put("front", str(turn))
        if turn % 2 == 0:
            mailbox.put("left", str(turn))
        if turn % 10 == 0:
            mailbox.put("rear", str(turn))
        if turn % 3 == 0:  # the consumer is three times too slow
            queued = mailbox.take(0)
            assert queued is not None
            served[queued.camera] += 1
    assert served["rear"] == 30  # every frame of the slow camera is served
    assert abs(served["front"] - served["left"]) <= 1


def serve(mailbox: Mailbox[str], turns: int, *cameras: str) -> Counter[str]:
    """Count the turns of each camera while messages of all given cameras always wait."""
    served: Counter[str] = Counter()
    for turn in range(turns):
        for camera in cameras:
            mailbox.put(camera, str(turn))
        queued = mailbox.take(0)
        assert queued is not None
        served[queued.camera] += 1
    return served


def test_a_camera_of_weight_three_has_three_times_the_turns() -> None:
    mailbox: Mailbox[str] = Mailbox(["front", "left", "rear"], clock_ns=Clock(), weights={"front": 3.0, "rear": 0.5})
    mailbox.open()
    assert serve(mailbox, 450, "front", "left", "rear") == {"front": 300, "left": 100, "rear": 50}
    mailbox.set_weight("front", 1.0)
    mailbox.set_weight("rear", 1.0)
    assert set(serve(mailbox, 300, "front", "left", "rear").values()) <= {99, 100, 101}
    with pytest.raises(ValueError, match="positive"):
        mailbox.set_weight("front", 0.0)


@pytest.mark.parametrize(("before", "after"), [(0.01, 1.0), (1.0, 0.1), (100.0, 1.0), (0.05, 0.5)])
def test_a_weight_that_changes_counts_from_the_next_turn_on(before: float, after: float) -> None:
    mailbox = open_mailbox("front", "left")
    mailbox.set_weight("front", before)
    serve(mailbox, 10, "front", "left")
    mailbox.set_weight("front", after)
    share = after / (1 + after)
    assert abs(serve(mailbox, 44, "front", "left")["front"] - 44 * share) <= 1


def test_a_camera_saves_no_turns_up_while_it_is_silent() -> None:
    mailbox = open_mailbox("front", "left")
    serve(mailbox, 1000, "front")
    assert serve(mailbox, 100, "front", "left") == {"front": 50, "left": 50}


@pytest.mark.parametrize(("cameras", "rate_hz", "run_ms"), [(4, 30, 60), (3, 10, 50), (6, 60, 8), (2, 15, 400)])
def test_overload_keeps_ages_within_a_turn_and_rates_even(cameras: int, rate_hz: int, run_ms: int) -> None:
    """Yield the events of a simulated minute: cameras with different phases, and a consumer that is always busy."""
    clock, names = Clock(), [f"camera{number}" for number in range(cameras)]
    mailbox = open_mailbox(*names, clock=clock)
    period_ns, run_ns = 10**9 // rate_hz, run_ms * 10**6
    due_ns = {name: index * period_ns // cameras for index, name in enumerate(names)}
    served: Counter[str] = Counter()
    for end_ns in range(run_ns, 60 * 10**9, run_ns):
        for name in names:
            while due_ns[name] <= end_ns:
                clock.now_ns = due_ns[name]
                mailbox.put(name, "image")
                due_ns[name] += period_ns
        clock.now_ns = end_ns
        queued = mailbox.take(0)
        if queued is not None:
            served[queued.camera] += 1
            assert end_ns - queued.arrival_ns <= min(period_ns, cameras * run_ns)
    overloaded = cameras * rate_hz * run_ms > 1000
    assert overloaded
    assert max(served.values()) - min(served.values()) <= 1


def test_a_taken_message_gives_way_to_a_newer_one_and_its_camera_keeps_its_turn() -> None:
    mailbox = open_mailbox("front", "left")
    mailbox.put("front", "old")
    assert mailbox.take(0) is not None
    assert not mailbox.give_up_for_newer("front")
    mailbox.put("left", "other")
    mailbox.put("front", "new")
    assert mailbox.give_up_for_newer("front")
    queued = mailbox.take(0)
    assert queued is not None
    assert queued.message == "new"
    counts = mailbox.counts()["front"]
    assert (counts.received, counts.in_progress, counts.dropped) == (2, 1, {"replaced": 1})


def test_a_camera_is_left_alone_on_request() -> None:
    mailbox = open_mailbox("front", "left")
    mailbox.put("front", "x")
    assert mailbox.waits()
    assert not mailbox.waits({"front"})
    assert mailbox.take_next({"front"}) is None
    mailbox.put("left", "y")
    queued = mailbox.take_next({"front"})
    assert queued is not None
    assert queued.camera == "left"


def test_a_message_that_waited_too_long_is_dropped_at_its_turn() -> None:
    clock = Clock()
    mailbox = open_mailbox("front", "left", max_age_ms=100, clock=clock)
    mailbox.put("front", "old")
    clock.now_ns += 100_000_000
    mailbox.put("left", "fresh")
    clock.now_ns += 1
    queued = mailbox.take(0)
    assert queued is not None
    assert queued.message == "fresh"
    assert mailbox.counts()["front"].dropped == {"too_old": 1}


def test_a_message_exactly_at_the_limit_is_kept() -> None:
    clock = Clock()
    mailbox = open_mailbox("front", max_age_ms=100, clock=clock)
    mailbox.put("front", "just fresh")
    clock.now_ns += 100_000_000
    assert mailbox.take(0) is not None


def test_messages_that_never_came_are_received_and_lost() -> None:
    mailbox: Mailbox[int] = Mailbox(["front", "left"])
    mailbox.count_missed("front", 3)
    mailbox.count_missed("front", 1)
    counts = mailbox.counts()
    assert (counts["front"].received, counts["front"].dropped) == (4, {"lost": 4})
    assert counts["front"].latest_arrival_ns == 0
    assert counts["left"].received == 0


def test_closing_drops_what_waits_and_what_comes_as_inactive() -> None:
    mailbox = open_mailbox("front", "left")
    mailbox.put("front", "waiting")
    mailbox.close()
    mailbox.put("left", "late")
    assert mailbox.take() is None
    assert mailbox.counts()["front"].dropped == {"inactive": 1}
    assert mailbox.counts()["left"].dropped == {"inactive": 1}
    mailbox.open()
    mailbox.put("front", "again")
    queued = mailbox.take(0)
    assert queued is not None
    assert queued.message == "again"


def test_a_disabled_camera_drops_its_messages_as_inactive_and_takes_no_turns() -> None:
    mailbox = open_mailbox("front", "left")
    mailbox.put("front", "waiting")
    mailbox.set_enabled("front", False)
    assert not mailbox.waits()
    mailbox.put("front", "late")
    assert not mailbox.is_enabled("front")
    assert mailbox.counts()["front"].dropped == {"inactive": 2}
    assert serve(mailbox, 10, "front", "left") == {"left": 10}
    mailbox.close()
    mailbox.open()
    assert serve(mailbox, 2, "front", "left") == {"left": 2}  # it stays disabled
    mailbox.set_enabled("front", True)
    assert serve(mailbox, 10, "front", "left") == {"front": 5, "left": 5}


def test_put_and_close_wake_a_waiting_taker() -> None:
    mailbox: Mailbox[str] = Mailbox(["front"])
    mailbox.open()
    taken: list[str | None] = []

    def take_until_closed() -> None:
        while (queued := mailbox.take()) is not None:
            taken.append(queued.message)
            mailbox.published("front")
            first.set()

    first = threading.Event()
    taker = threading.Thread(target=take_until_closed, daemon=True)
    taker.start()
    mailbox.put("front", "hello")
    assert first.wait(10)
    mailbox.close()
    taker.join(10)
    assert not taker.is_alive()
    assert taken == ["hello"]


def test_mistakes_of_the_caller_are_errors() -> None:
    mailbox = open_mailbox("front")
    with pytest.raises(KeyError):
        mailbox.put("rear", "unknown camera")
    with pytest.raises(ValueError, match="in progress"):
        mailbox.published("front")
    mailbox.put("front", "x")
    mailbox.take(0)
    with pytest.raises(ValueError, match="drop reason"):
        mailbox.dropped("front", "bored")


class EveryMessageIsAccountedFor(RuleBasedStateMachine):
    """Checks that the counts are consistent after any order of calls."""

    cameras = ("front", "left", "right")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.mailbox: Mailbox[int] = Mailbox(self.cameras, 50.0, self.clock)
        self.sent: Counter[str] = Counter()
        self.taken: list[str] = []

    @rule(camera=st.sampled_from(cameras))
    def put(self, camera: str) -> None:
        self.mailbox.put(camera, self.sent[camera])
        self.sent[camera] += 1

    @rule(wait_ms=st.integers(0, 80))
    def wait(self, wait_ms: int) -> None:
        self.clock.now_ns += wait_ms * 1_000_000

    @rule()
    def take(self) -> None:
        queued = self.mailbox.take(0)
        if queued is not None:
            assert queued.message == self.sent[queued.camera] - 1  # the newest one of its camera
            assert self.clock.now_ns - queued.arrival_ns <= 50_000_000
            self.taken.append(queued.camera)

    @rule(reason=st.sampled_from((None, *DROP_REASONS)))
    def settle(self, reason: str | None) -> None:
        if self.taken:
            camera = self.taken.pop()
            if reason is None:
                self.mailbox.published(camera)
            else:
                self.mailbox.dropped(camera, reason)

    @rule(camera=st.sampled_from(cameras), enabled=st.booleans())
    def enable(self, camera: str, enabled: bool) -> None:
        self.mailbox.set_enabled(camera, enabled)
        assert enabled or not self.mailbox.counts()[camera].waiting

    @rule(camera=st.sampled_from(cameras), max_rate_hz=st.sampled_from((0.0, 10.0, 100.0)))
    def limit(self, camera: str, max_rate_hz: float) -> None:
        self.mailbox.set_max_rate(camera, max_rate_hz)

    @rule(opens=st.booleans())
    def switch(self, opens: bool) -> None:
        if opens:
            self.mailbox.open()
        else:
            self.mailbox.close()

    @invariant()
    def books_balance(self) -> None:
        for camera, counts in self.mailbox.counts().items():
            assert counts.received == self.sent[camera]
            settled = counts.published + sum(counts.dropped.values())
            assert counts.received == settled + counts.waiting + counts.in_progress
            assert counts.in_progress == self.taken.count(camera)


EveryMessageIsAccountedFor.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEveryMessageIsAccountedFor = EveryMessageIsAccountedFor.TestCase
