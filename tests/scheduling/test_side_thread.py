"""The thread beside the network: one at a time, whatever hangs in it while the node is deactivated and activated."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ros_kd_perception.scheduling.side_thread import SideThread

WAIT_S = 30.0


class Work:
    """Work on items that takes until the test lets it end."""

    def __init__(self) -> None:
        self.side: SideThread[str] = SideThread("overlay", ["front"], self._do, lambda text: None)
        self.done: dict[str, tuple[threading.Thread, bool]] = {}  # item -> its thread, and whether that had to end
        self.may_end = {item: threading.Event() for item in ("first", "second", "third")}
        self.changed = threading.Condition()
        self.begun: list[str] = []

    def _do(self, camera: str, item: str) -> None:
        self._note(lambda: self.begun.append(item))
        assert self.may_end[item].wait(WAIT_S)
        self._note(lambda: self.done.update({item: (threading.current_thread(), self.side.closed)}))

    def _note(self, change: object) -> None:
        with self.changed:
            change()  # type: ignore[operator]
            self.changed.notify_all()

    def until_begun(self, item: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: item in self.begun, WAIT_S), f"{item} begins"

    def until_done(self, item: str) -> tuple[threading.Thread, bool]:
        with self.changed:
            assert self.changed.wait_for(lambda: item in self.done, WAIT_S), f"{item} is done"
        return self.done[item]


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    for event in work.may_end.values():
        event.set()
    work.side.stop(WAIT_S)


def test_a_thread_that_was_too_slow_for_a_stop_ends_after_its_item(work: Work) -> None:
    work.side.start()
    work.side.offer("front", "first")
    work.until_begun("first")
    work.side.stop(0.0)

    work.side.start()
    work.side.offer("front", "second")
    work.until_begun("second")  # the slow one does not keep the new one from its work
    work.may_end["first"].set()
    slow, had_to_end = work.until_done("first")
    assert had_to_end
    slow.join(WAIT_S)
    assert not slow.is_alive()

    work.side.offer("front", "third")
    for item in ("second", "third"):
        work.may_end[item].set()
        thread, had_to_end = work.until_done(item)
        assert thread is not slow
        assert not had_to_end
