"""Tests the diagnostic status that `CameraHealth` makes from figures."""

import pytest

from ros_kd_perception.health.status import (
    WINDOW_S,
    CameraHealth,
    CameraLink,
    FrameTimes,
    Level,
    Status,
    WorkerLiveness,
    worker_problem,
)
from ros_kd_perception.health.verdict import STATES
from ros_kd_perception.structures import DROP_REASONS, FrameCounts

SECOND = 10**9
LINK = CameraLink("/front/image_raw", 1)


def counts(received: int, published: int, arrival_s: float, **dropped: int) -> FrameCounts:
    return FrameCounts(received, published, dropped, 0, 0, int(arrival_s * SECOND))


def state(status: Status) -> str:
    found = dict(status.values)["state"]
    assert found in STATES
    return found


def judge(*snapshots: tuple[float, FrameCounts], link: CameraLink = LINK, active_since_s: float | None = 0.0) -> Status:
    """Ask a camera for its status at each of the given seconds and return the last one."""
    health = CameraHealth("front", silence_timeout_ms=2000)
    since_ns = None if active_since_s is None else int(active_since_s * SECOND)
    statuses = [health.status(int(at_s * SECOND), c, link, since_ns) for at_s, c in snapshots]
    return statuses[-1]


def test_a_camera_that_keeps_up_is_ok_with_its_rates() -> None:
    status = judge((1.0, counts(0, 0, 0.5)), (3.0, counts(60, 60, 3.0)))
    assert status.level == Level.OK
    values = dict(status.values)
    assert (values["rate_in_hz"], values["rate_out_hz"]) == ("30.00", "30.00")
    assert (values["received"], values["published"], values["waiting"]) == ("60", "60", "0")
    assert status.message == "30.0 of 30.0 frames/s"


def test_rates_forget_what_is_older_than_the_window() -> None:
    snapshots = [(float(t), counts(100 * min(t, 3), 100 * min(t, 3), t)) for t in range(20)]
    assert dict(judge(*snapshots).values)["rate_in_hz"] == "0.00"
    assert dict(judge(*snapshots[:3]).values)["rate_in_hz"] == "100.00"


def test_every_drop_reason_is_listed_even_at_zero() -> None:
    values = dict(judge((1.0, counts(3, 2, 1.0, replaced=1))).values)
    assert {key for key in values if key.startswith("dropped.")} == {f"dropped.{reason}" for reason in DROP_REASONS}
    assert values["dropped.replaced"] == "1"
    assert values["dropped.bad_step"] == "0"


def test_a_disabled_camera_is_ok_and_its_silence_counts_from_when_it_is_enabled() -> None:
    health = CameraHealth("front", silence_timeout_ms=2000)
    health.set_enabled(False, SECOND)

    def status(at_s: float, arrival_s: float = 0.5, active_since_s: float | None = 0.0) -> Status:
        since_ns = None if active_since_s is None else int(active_since_s * SECOND)
        return health.status(int(at_s * SECOND), counts(1, 1, arrival_s), LINK, since_ns)

    for active_since_s in (0.0, None):
        disabled = status(100.0, active_since_s=active_since_s)
        assert (disabled.level, state(disabled)) == (Level.OK, "disabled")
        assert disabled.message == "disabled by the parameter front.enabled"
    health.set_enabled(True, 100 * SECOND)
    assert state(status(101.9)) == "waiting"
    assert "(s) match on" in status(102.1).message  # it has sent nothing since
    assert state(status(110.0, arrival_s=109.0)) == "waiting"
    assert state(status(110.0, active_since_s=None)) == "inactive"


def test_frames_that_a_limit_leaves_out_are_no_overload() -> None:
    def judged(received: int, published: int, **dropped: int) -> Status:
        health = CameraHealth("front", silence_timeout_ms=2000)
        health.max_rate_hz = 5.0
        health.status(0, counts(0, 0, 0.0), LINK, 0)
        return health.status(4 * SECOND, counts(received, published, 4.0, **dropped), LINK, 0)

    fine = judged(120, 20, over_rate=100)
    assert (fine.level, state(fine)) == (Level.OK, "ok")
    assert fine.message == "5.0 of 30.0 frames/s, max_rate_hz is 5"
    assert dict(fine.values)["max_rate_hz"] == "5"
    assert state(judged(120, 0, over_rate=119)) == "ok"  # a limit of less than one frame in the window
    behind = judged(120, 5, over_rate=90, replaced=25)
    assert (behind.level, state(behind)) == (Level.WARN, "overloaded")


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (CameraLink("/front/image_raw", 0), "no publisher on /front/image_raw"),
        (CameraLink("/front/image_raw", 1), "fastdds_large_images.xml"),
        (CameraLink("/front/image_raw", 1), "image_reliability: reliable"),
        (CameraLink("/front/image_raw", 1, "incompatible QoS"), "cannot be received: incompatible QoS"),
    ],
)
def test_silence_is_an_error_with_a_remedy(link: CameraLink, words: str) -> None:
    status = judge((5.1, counts(0, 0, 0.0)), link=link, active_since_s=3.0)
    assert status.level == Level.ERROR
    assert words in status.message
    assert status.message.startswith("nothing for 2.1 s")


def test_silence_of_a_camera_that_has_sent_before_does_not_blame_the_transport() -> None:
    status = judge((5.0, counts(10, 10, 2.9)))
    assert status.level == Level.ERROR
    assert "check the camera" in status.message
    assert "fastdds" not in status.message


def test_silence_counts_from_the_activation() -> None:
    assert judge((5.0, counts(0, 0, 0.0)), active_since_s=4.0).level == Level.OK
    assert judge((6.5, counts(0, 0, 0.0)), active_since_s=4.0).level == Level.ERROR


def test_a_silent_camera_is_no_error_while_inactive() -> None:
    status = judge((500.0, counts(10, 10, 2.0)), active_since_s=None)
    assert (status.level, status.message) == (Level.OK, "inactive")


def test_some_refused_frames_warn_and_only_refused_frames_are_an_error() -> None:
    before = (1.0, counts(0, 0, 0.9))
    some = judge(before, (2.0, counts(10, 8, 2.0, bad_step=1, zero_stamp=1)))
    assert some.level == Level.WARN
    assert "bad_step 1, zero_stamp 1" in some.message
    assert judge(before, (2.0, counts(10, 0, 2.0, bad_step=10))).level == Level.ERROR


def test_refusals_are_forgotten_after_the_window() -> None:
    bad = counts(10, 8, 2.0, bad_step=2)
    later = 2.0 + WINDOW_S + 1
    good = counts(20, 18, later, bad_step=2)
    assert judge((1.0, counts(0, 0, 0.9)), (2.0, bad), (later, good)).level == Level.OK


def test_failed_inference_is_an_error() -> None:
    assert judge((1.0, counts(0, 0, 0.9)), (2.0, counts(10, 9, 2.0, failed=1))).level == Level.ERROR


def test_too_slow_a_machine_is_a_warning() -> None:
    before = (1.0, counts(0, 0, 0.9))
    slow = judge(before, (2.0, counts(10, 4, 2.0, replaced=6)))
    assert slow.level == Level.WARN
    assert "4.0 of 10.0 frames/s" in slow.message
    assert judge(before, (2.0, counts(10, 6, 2.0, replaced=4))).level == Level.OK
    assert judge(before, (2.0, counts(10, 9, 2.0, too_old=1))).level == Level.WARN


def test_frames_lost_in_the_middleware_give_a_warning_with_remedies() -> None:
    before = (1.0, counts(0, 0, 0.9))
    status = judge(before, (2.0, counts(10, 4, 2.0, lost=6)))
    assert (status.level, state(status)) == (Level.WARN, "overloaded")
    assert "6 of the last 10 frames were lost before the node received them" in status.message
    assert "fastdds_large_images.xml" in status.message
    assert "fastdds" not in judge(before, (2.0, counts(10, 4, 2.0, lost=1, replaced=5))).message
    assert judge(before, (2.0, counts(10, 6, 2.0, lost=4))).level == Level.OK


@pytest.mark.parametrize("reason", ["lost", "replaced", "too_old"])
def test_images_without_any_result_are_an_error(reason: str) -> None:
    before = (1.0, counts(0, 0, 0.9))
    assert judge(before, (4.0, counts(90, 0, 4.0, **{reason: 89}))).level == Level.ERROR
    assert judge(before, (4.0, counts(90, 1, 4.0, **{reason: 88}))).level == Level.WARN
    assert judge(before, (1.5, counts(15, 0, 1.5, **{reason: 14}))).level == Level.WARN


def test_an_incompatible_publisher_is_an_error_beside_a_compatible_one() -> None:
    link = CameraLink("/front/image_raw", 2, "incompatible QoS")
    assert judge((1.0, counts(0, 0, 0.9)), (2.0, counts(30, 30, 2.0)), link=link).level == Level.ERROR


def test_percentiles_of_the_times_within_the_window() -> None:
    health = CameraHealth("front", 2000)
    health.record(0, FrameTimes(999.0, 999.0, 999.0))
    for value in range(101):
        health.record(20 * SECOND, FrameTimes(float(value), value + 10.0, None))
    values = dict(health.status(21 * SECOND, counts(1, 1, 21.0), LINK, 0).values)
    assert (values["processing_ms.p50"], values["processing_ms.p95"], values["processing_ms.p99"]) == (
        "50.00",
        "95.00",
        "99.00",
    )
    assert values["latency_ms.p50"] == "60.00"
    assert values["stamp_age_ms.p50"] == ""


def seen_for(seconds: int, health: CameraHealth, stamp_s: int = 1, sample: bytes = b"", height: int = 480) -> Status:
    """Pass ten frames a second to the camera's watch and return the status at the end."""
    for frame in range(10 * seconds):
        at_ns = frame * SECOND // 10
        health.watch.check(at_ns, stamp_s * SECOND + at_ns, (height, 640, 3), sample or str(frame).encode())
    health.status(0, counts(0, 0, 0.0), LINK, 0)
    return health.status(seconds * SECOND, counts(10 * seconds, 10 * seconds, seconds), LINK, 0)


def test_each_condition_has_its_own_state() -> None:
    before = (1.0, counts(0, 0, 0.9))

    def after(published: int, link: CameraLink = LINK, **dropped: int) -> str:
        return state(judge(before, (2.0, counts(10, published, 2.0, **dropped)), link=link))

    assert after(10) == "ok"
    assert after(0, unknown_encoding=10) == "wrong_encoding"
    assert after(5, bad_step=5) == "bad_frames"
    assert after(8, stale=2) == "stale"
    assert after(8, stamp_backwards=2) == "backward_stamps"
    assert after(8, stamp_ahead=2) == "future_stamps"
    assert after(5, duplicate=5) == "duplicated"
    assert after(9, failed=1) == "failed"
    assert after(3, replaced=7) == after(9, too_old=1) == "overloaded"
    assert after(10, CameraLink("/front/image_raw", 2, "incompatible QoS")) == "incompatible"
    assert state(judge((5.1, counts(0, 0, 0.0)))) == "silent"
    assert state(judge((5.1, counts(0, 0, 0.0)), link=CameraLink("/front/image_raw", 0))) == "missing"
    assert state(judge((1.0, counts(0, 0, 0.0)))) == "waiting"
    assert state(judge((1.0, counts(0, 0, 0.0)), active_since_s=None)) == "inactive"


def test_all_findings_are_listed_and_the_worst_comes_first() -> None:
    status = judge((1.0, counts(0, 0, 0.9)), (2.0, counts(10, 1, 2.0, replaced=6, bad_step=2, failed=1)))
    assert (status.level, state(status)) == (Level.ERROR, "failed")
    assert all(words in status.message for words in ("inference failed on 1", "refused 2", "cannot keep up"))


def test_the_last_refusal_and_a_second_publisher_are_named() -> None:
    health = CameraHealth("front", 2000)
    health.record_refusal("expected this,\ngot that")
    health.status(SECOND, counts(0, 0, 0.9), LINK, 0)
    two = CameraLink("/front/image_raw", 2)
    status = health.status(2 * SECOND, counts(10, 5, 2.0, stamp_backwards=5), two, 0)
    assert "(expected this, got that)" in status.message
    assert "2 publishers send on /front/image_raw, expected one" in status.message


def test_a_frozen_picture_warns() -> None:
    status = seen_for(3, CameraHealth("front", 2000), sample=b"still")
    assert (status.level, state(status)) == (Level.WARN, "frozen")
    assert "3.0 s" in status.message


def test_a_changed_size_warns_with_both_sizes() -> None:
    health = CameraHealth("front", 2000)
    seen_for(1, health)
    status = seen_for(1, health, stamp_s=10, height=360)
    assert (status.level, state(status)) == (Level.WARN, "changed_size")
    assert "640x480 to 640x360" in status.message
    assert dict(status.values)["size"] == "640x360"


def test_a_limit_on_stamps_that_cannot_be_applied_warns() -> None:
    health = CameraHealth("front", 2000)
    health.stamp_limit_suspended = True
    status = seen_for(1, health)
    assert (status.level, state(status)) == (Level.WARN, "clocks_apart")
    assert "use_sim_time" in status.message


def test_worker_problem_reports_ended_and_stuck_threads() -> None:
    assert worker_problem(WorkerLiveness(alive=True, busy_s=0.1)) == ""
    assert "ended" in worker_problem(WorkerLiveness(alive=False))
    assert "busy with one frame for 7 s" in worker_problem(WorkerLiveness(alive=True, busy_s=7.0))
