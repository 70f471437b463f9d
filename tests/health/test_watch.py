"""Tests the faults that `CameraWatch` finds across frames that are valid one by one."""

from __future__ import annotations

import numpy as np
import pytest

from ros_kd_perception.health.watch import FROZEN_FRAMES, WINDOW_S, CameraWatch, frame_id_problem, picture_sample
from ros_kd_perception.structures import BadFrame

SECOND = 10**9
HD = (720, 1280, 3)


def show(watch: CameraWatch, at_s: float, stamp_s: float, sample: bytes, shape: tuple[int, ...] = HD) -> str:
    """Check a frame and return the reason of its refusal, or an empty string."""
    try:
        watch.check(int(at_s * SECOND), int(stamp_s * SECOND), shape, sample)
    except BadFrame as error:
        return error.reason
    return ""


def test_a_repeated_frame_is_a_duplicate_and_another_picture_with_the_same_stamp_is_not() -> None:
    watch = CameraWatch("front")
    assert [show(watch, 1, 1, sample) for sample in (b"a", b"a", b"b", b"b", b"a")] == [
        "", "duplicate", "", "duplicate", "",
    ]  # fmt: skip
    assert show(watch, 1, 2, b"a") == ""


def test_a_frozen_picture_is_reported_until_it_changes() -> None:
    watch = CameraWatch("front")
    for number in range(20):
        assert show(watch, number / 10, 1 + number / 10, b"still") == ""
        report = watch.report(int(number / 10 * SECOND))
        assert report.frozen_s == pytest.approx(number / 10 if number >= 10 else 0.0)
    show(watch, 2.0, 3.0, b"moves")
    assert watch.report(2 * SECOND).frozen_s == 0.0


def test_a_few_slow_frames_are_not_a_frozen_picture() -> None:
    watch = CameraWatch("front")
    for number in range(1, FROZEN_FRAMES):
        show(watch, float(number), float(number), b"slow")
        assert watch.report(number * SECOND).frozen_s == 0.0


def test_a_changed_size_is_reported_within_the_window() -> None:
    watch = CameraWatch("front")
    assert watch.report(0).size == ""
    show(watch, 1, 1, b"a")
    assert watch.report(SECOND).sizes == ("1280x720",)
    show(watch, 9, 9, b"b", (480, 640, 3))
    report = watch.report(9 * SECOND)
    assert (report.size, report.sizes) == ("640x480", ("1280x720", "640x480"))
    assert watch.report(int((9.1 + WINDOW_S) * SECOND)).sizes == ("640x480",)


def test_a_camera_that_changes_its_size_with_every_frame_uses_bounded_memory() -> None:
    watch = CameraWatch("front")
    for number in range(1, 1000):
        show(watch, 1, number, b"", (number, number, 3))
    assert len(watch.report(SECOND).sizes) <= 16


def test_a_looped_bag_is_one_jump_and_two_drops() -> None:
    watch = CameraWatch("front")
    stamps = [10.0, 10.1, 10.2, 1.0, 1.1, 1.2, 1.3]
    reasons = [show(watch, 20, stamp, str(index).encode()) for index, stamp in enumerate(stamps)]
    assert reasons == ["", "", "", "stamp_backwards", "stamp_backwards", "", ""]
    assert watch.report(20 * SECOND).time_jumps_s == pytest.approx((9.0,))
    assert watch.report(int((20.1 + WINDOW_S) * SECOND)).time_jumps_s == ()


def test_a_stamp_of_the_future_is_reported_and_is_no_time_jump() -> None:
    watch = CameraWatch("front")
    stamps = [10.0, 10.1, 3610.2, 10.3, 10.4, 3610.5, 10.6]
    reasons = [show(watch, 20 + index / 10, stamp, str(index).encode()) for index, stamp in enumerate(stamps)]
    assert reasons == ["", "", "", "", "", "stamp_ahead", ""]
    report = watch.report(21 * SECOND)
    assert report.wrongly_ahead_s == pytest.approx((3599.9,))
    assert report.time_jumps_s == ()
    assert watch.report(int((21.1 + WINDOW_S) * SECOND)).wrongly_ahead_s == ()


@pytest.mark.parametrize(
    ("frame_id", "found"),
    [
        ("", "is empty"),
        ("/cam", "'/cam' starts with a slash"),
        ("a b", "'a b' has blanks"),
        ("front ", "'front ' has blanks"),
        ("front\n", "has blanks or control characters"),
        ("front\x00", "has blanks or control characters"),
        ("/" + "x" * 200, "starts with a slash"),
    ],
)
def test_a_frame_id_that_tf2_cannot_look_up_is_reported_with_the_expectation(frame_id: str, found: str) -> None:
    problem = frame_id_problem(frame_id)
    assert found in problem
    assert "without a leading slash" in problem
    assert len(problem) < 200
    watch = CameraWatch("front")
    watch.check(SECOND, SECOND, HD, b"a", frame_id)
    assert watch.report(SECOND).frame_id_problem == problem
    watch.check(2 * SECOND, 2 * SECOND, HD, b"b", "front_optical")
    assert watch.report(2 * SECOND).frame_id_problem == ""


@pytest.mark.parametrize("frame_id", ["front", "robot_1/front_optical", "a-b.c", "kamera_größer"])
def test_a_frame_id_that_tf2_can_look_up_is_fine(frame_id: str) -> None:
    assert frame_id_problem(frame_id) == ""


def test_a_restart_forgets_all() -> None:
    watch = CameraWatch("front")
    show(watch, 1, 5, b"a")
    watch.restart()
    assert show(watch, 2, 1, b"a") == ""
    assert watch.report(2 * SECOND).time_jumps_s == ()


def test_a_sample_differs_with_noise_and_does_not_depend_on_padding() -> None:
    random = np.random.default_rng(0)
    scene = random.integers(20, 236, (720, 1280, 3), dtype=np.uint8)
    noisy = scene + random.integers(0, 2, scene.shape, dtype=np.uint8)
    padded = np.zeros((720, 1408, 3), np.uint8)[:, :1280]
    padded[:] = scene
    assert picture_sample(scene) == picture_sample(padded)
    assert picture_sample(scene) != picture_sample(noisy)
    assert len(picture_sample(scene)) < scene.nbytes / 20
    for height in (1, 2, 31, 32, 33):
        assert picture_sample(scene[:height])
