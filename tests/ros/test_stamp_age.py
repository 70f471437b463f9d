"""Header stamps against the ROS clock: too old, in the future, and of unknown age."""

from __future__ import annotations

import pytest

from ros_kd_perception.health.stamp_age import StampAge
from ros_kd_perception.structures import BadFrame

SECOND = 10**9
NOW_S = 1_700_000_000.0


class Camera:
    """Passes stamps, in seconds relative to the clock, to a `StampAge`."""

    def __init__(self, max_age_ms: float = 0.0, drops_unknown: bool = False) -> None:
        self.warnings: list[str] = []
        self.stamp_age = StampAge(max_age_ms, lambda: round(NOW_S * SECOND), self.warnings.append, drops_unknown)

    def show(self, *ahead_s: float) -> list[str]:
        return [self._reason(round((NOW_S + seconds) * SECOND)) for seconds in ahead_s]

    def _reason(self, stamp_ns: int) -> str:
        try:
            self.stamp_age.check_future("front", stamp_ns)
            self.stamp_age.check("front", stamp_ns)
        except BadFrame as error:
            return error.reason
        return ""


def test_only_the_stamp_in_the_future_is_refused() -> None:
    assert Camera().show(*[-0.1] * 3, 7200.0, -0.1, 3.0, -0.1) == ["", "", "", "stamp_ahead", "", "stamp_ahead", ""]


def test_with_a_slow_clock_no_stamp_is_in_the_future() -> None:
    assert Camera().show(-0.1, 0.25, 0.9, -0.1) == [""] * 4


def test_with_a_stopped_clock_no_stamp_is_in_the_future() -> None:
    """A bag that is played at double speed with one /clock message per second, and a camera whose clock drifts."""
    assert Camera().show(*(n / 10 for n in range(-5, 40))) == [""] * 45


def test_a_wrong_stamp_is_found_while_the_clock_is_stopped() -> None:
    assert Camera().show(*(n / 10 for n in range(-5, 15)), 7200.0, 1.6) == [*[""] * 20, "stamp_ahead", ""]


def test_a_camera_whose_clock_is_set_ahead_goes_on_after_two_frames() -> None:
    camera = Camera()
    for _ in range(2):
        assert camera.show(*[-0.1] * 3) == [""] * 3
        assert camera.show(7200.0, 7200.1, 7200.2, 7200.3) == ["stamp_ahead", "stamp_ahead", "", ""]


@pytest.mark.parametrize("apart_s", [-1e8, -3600.0, 3600.0])
def test_stamps_of_another_clock_are_not_compared_with_this_one(apart_s: float) -> None:
    """A bag that is played without /clock: a stamp can only be compared with the others."""
    assert Camera().show(*(apart_s + n for n in range(5))) == [""] * 5


@pytest.mark.parametrize("apart_s", [-7200.0, 7200.0])
def test_the_parameter_decides_if_frames_of_unknown_age_are_dropped(apart_s: float) -> None:
    publishing, dropping = Camera(500.0), Camera(500.0, drops_unknown=True)
    assert publishing.show(apart_s, apart_s) == ["", ""]
    assert dropping.show(apart_s, apart_s) == ["stale", "stale"]
    assert dropping.show(-0.1, -0.6) == ["", "stale"]
    for camera, word in ((publishing, "published"), (dropping, "dropped")):
        assert "suspended max_stamp_age_ms" in camera.warnings[0]
        assert word in camera.warnings[0]


def test_without_a_limit_no_age_is_computed() -> None:
    assert Camera(0.0, drops_unknown=True).show(-7200.0, 7200.0, -7200.0) == [""] * 3


def test_the_limit_may_change_while_the_node_runs() -> None:
    camera = Camera(500.0)
    assert camera.show(-7200.0) == [""]
    camera.stamp_age.drops_unknown = True
    assert camera.show(-7200.0) == ["stale"]
