"""A process that receives nothing of a camera which was received before it is found once, and never again."""

from __future__ import annotations

from ros_kd_perception.scheduling.takeover_watch import DEAF_S, RECENT_S, TakeoverWatch

STEP_S = 0.25


class Watched:
    """A watch of one camera, and how often it found the camera's process deaf."""

    def __init__(self, arrived_s: float = 99.9) -> None:
        self.arrived_s = arrived_s
        self.is_served = True
        self.found = 0
        self.now_s = 100.0
        self.watch = TakeoverWatch(lambda _: self.arrived_s)

    def take_over(self) -> None:
        self.watch.note_takeover(["front"], self.now_s)

    def wait(self, seconds: float) -> int:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.found += len(self.watch.deaf(lambda _: self.is_served, self.now_s))
        return self.found


def test_a_process_that_receives_nothing_of_a_camera_is_found() -> None:
    watched = Watched()
    watched.take_over()
    assert watched.wait(DEAF_S - STEP_S) == 0
    assert watched.wait(1.0) == 1


def test_a_camera_that_has_stopped_costs_one_process_and_not_more() -> None:
    watched = Watched()
    for _ in range(5):
        watched.take_over()
        assert watched.wait(2 * DEAF_S) == 1


def test_a_camera_that_comes_back_is_watched_at_the_next_takeover() -> None:
    watched = Watched()
    for number in (1, 2, 3):
        watched.take_over()
        assert watched.wait(2 * DEAF_S) == number
        watched.arrived_s = watched.now_s


def test_one_image_after_the_takeover_is_enough() -> None:
    watched = Watched()
    watched.take_over()
    watched.arrived_s = watched.now_s + 0.01
    assert watched.wait(10 * DEAF_S) == 0


def test_a_camera_that_was_not_received_lately_is_not_watched() -> None:
    watched = Watched(arrived_s=100.0 - RECENT_S - 0.1)
    watched.take_over()
    assert watched.wait(10 * DEAF_S) == 0


def test_time_without_a_process_or_a_publisher_does_not_count() -> None:
    watched = Watched()
    watched.take_over()
    assert watched.wait(DEAF_S - 0.5) == 0
    watched.is_served = False
    assert watched.wait(10 * DEAF_S) == 0
    watched.take_over()  # by the next process, long after the last image
    watched.is_served = True
    assert watched.wait(DEAF_S) == 0
    assert watched.wait(1.0) == 1
