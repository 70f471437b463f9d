"""BoxMotion: it learns a constant velocity, lost frames change nothing, and more time means less certainty."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.tracking.motion import BoxMotion

BOX = np.array([[100.0, 50.0, 180.0, 90.0]], np.float32)
SPEED = np.array([120.0, -40.0], np.float32)  # pixels per second
ALL = np.array([0])


def moved(seconds: float) -> np.ndarray:
    return BOX + np.tile(SPEED, 2)[None] * np.float32(seconds)


def followed(times_s: list[float]) -> BoxMotion:
    motion = BoxMotion()
    motion.add(moved(times_s[0]))
    for before, now in itertools.pairwise(times_s):
        motion.predict(now - before)
        motion.correct(ALL, moved(now))
    return motion


@pytest.mark.parametrize("times_s", [[i * 0.1 for i in range(12)], [0, 0.1, 0.15, 0.4, 0.5, 0.8, 0.9, 1.0, 1.1]])
def test_it_learns_a_constant_velocity_from_frames_at_any_times(times_s: list[float]) -> None:
    motion = followed(times_s)

    motion.predict(0.3)

    assert motion.boxes_xyxy[0] == pytest.approx(moved(times_s[-1] + 0.3)[0], abs=2.0)
    assert motion.speeds[0, :2] == pytest.approx(SPEED, abs=4.0)


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=6))
def test_the_number_of_predictions_does_not_matter_only_the_time(steps_s: list[float]) -> None:
    once, often = followed([0.0, 0.1]), followed([0.0, 0.1])
    for motion in (once, often):
        motion.hold_sizes(ALL)  # the noise goes with the size, so that must not change meanwhile

    once.predict(sum(steps_s))
    for step_s in steps_s:
        often.predict(step_s)

    for name in ("values", "speeds", "value_variances", "covariances", "speed_variances"):
        assert getattr(often, name) == pytest.approx(getattr(once, name), rel=1e-9, abs=1e-9), name


@given(st.lists(st.tuples(st.floats(0.001, 5.0), st.booleans()), max_size=30))
def test_variances_stay_positive_and_grow_without_a_sight(steps: list[tuple[float, bool]]) -> None:
    motion = BoxMotion()
    motion.add(BOX)
    for seconds, is_seen in steps:
        before = motion.value_variances.copy()
        motion.predict(seconds)
        assert (motion.value_variances > before).all()
        if is_seen:
            motion.correct(ALL, BOX)
        determinant = motion.value_variances * motion.speed_variances - motion.covariances**2
        assert (motion.value_variances > 0).all()
        assert (motion.speed_variances > 0).all()
        assert (determinant >= 0).all()


def test_a_box_that_is_not_seen_neither_grows_nor_gets_a_side_without_length() -> None:
    motion = BoxMotion()
    motion.add(BOX)
    motion.predict(0.1)
    motion.correct(ALL, np.array([[120.0, 60.0, 160.0, 80.0]], np.float32))  # half as large: it would vanish soon
    shrinking = motion.values[0, 2:].copy()
    motion.predict(5.0)
    assert (motion.values[0, 2:] >= 1.0).all()

    motion.values[0, 2:] = shrinking
    motion.hold_sizes(ALL)
    motion.predict(5.0)
    assert motion.values[0, 2:].tolist() == shrinking.tolist()
