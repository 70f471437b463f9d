from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.health.watch import RESTART_AFTER, StampOrder
from ros_kd_perception.structures import BadFrame


def reasons(stamps: list[int], order: StampOrder | None = None, camera: str = "front") -> list[str]:
    order = order or StampOrder()
    found = []
    for stamp_ns in stamps:
        try:
            order.check(camera, stamp_ns)
            found.append("")
        except BadFrame as bad:
            found.append(bad.reason)
    return found


def test_zero_and_negative_stamps_are_refused():
    assert reasons([0, -1, 5]) == ["zero_stamp", "zero_stamp", ""]


def test_one_stamp_back_is_refused_and_the_next_in_order_passes():
    assert reasons([10, 20, 15, 30]) == ["", "", "stamp_backwards", ""]


def test_equal_stamps_pass():
    assert reasons([10, 10, 10]) == ["", "", ""]


def test_each_camera_has_its_own_time_line():
    order = StampOrder()
    assert reasons([100], order, "front") + reasons([50], order, "left") == ["", ""]


def test_a_looped_bag_loses_two_frames():
    found = reasons([100, 200, 300, 100, 200, 300, 400])
    assert found == ["", "", "", "stamp_backwards", "stamp_backwards", "", ""]


def test_a_looped_bag_whose_stamps_come_in_pairs_loses_two_of_them():
    once = [stamp for stamp in (100, 200, 300, 400, 500) for _ in range(2)]
    assert reasons(once + once) == [""] * 10 + ["stamp_backwards"] * 4 + [""] * 6


SECOND = 10**9


def outcome(stamps_s: list[float], period_s: float = 0.1) -> list[str]:
    """Return the refusal reasons for frames that arrive at a steady rate with these stamps in seconds."""
    order, found = StampOrder(), []
    for number, stamp_s in enumerate(stamps_s):
        try:
            order.check("front", round(stamp_s * SECOND), round((1 + number * period_s) * SECOND))
            found.append("")
        except BadFrame as bad:
            found.append(bad.reason)
    return found


def test_a_single_stamp_of_the_future_costs_no_later_frame():
    assert outcome([100.0, 100.1, 7300.0, 100.3, 100.4, 100.5]) == [""] * 6


def test_two_stamps_of_the_future_cost_no_later_frame():
    assert outcome([100.0, 100.1, 7300.0, 7300.1, 100.4, 100.5]) == [""] * 6


def test_a_first_stamp_of_the_future_costs_no_later_frame():
    assert outcome([7300.0, 100.1, 100.2, 100.3]) == [""] * 4
    assert outcome([7300.0, 7300.1, 100.2, 100.3, 100.4]) == [""] * 5


def test_a_frame_out_of_order_after_a_leap_is_refused():
    """After a wrong stamp the next stamps are far behind it. After a clock was set they continue from it."""
    assert outcome([100.0, 7300.0, 7299.9, 7300.2, 7300.3]) == ["", "", "stamp_backwards", "", ""]


def test_a_camera_with_many_stamps_of_the_future_is_not_starved():
    """The first wrong stamp is accepted. Later ones are refused, and no good frame is."""
    stamps_s = [7300.0 + n if n % 3 == 2 else 100.0 + n / 10 for n in range(30)]
    found = outcome(stamps_s)
    assert [reason for n, reason in enumerate(found) if n % 3 != 2] == [""] * 20
    assert found[2::3] == [""] + ["stamp_ahead"] * 9


def test_a_camera_whose_clock_is_set_loses_no_frame():
    assert outcome([100.0, 100.1, *(7300.0 + n / 10 for n in range(10))]) == [""] * 12


def test_a_clock_that_is_set_after_a_wrong_stamp_costs_two_frames():
    stamps_s = [100.0, 7300.0, 100.2, 100.3, *(7400.0 + n / 10 for n in range(5))]
    assert outcome(stamps_s) == ["", "", "", "", "stamp_ahead", "stamp_ahead", "", "", ""]


def test_a_pause_and_a_low_frame_rate_are_not_leaps():
    """Their stamps advance no more than the clock. A late frame is still refused."""
    assert outcome([100.0, 105.0, 104.0, 110.0], period_s=5.0) == ["", "", "stamp_backwards", ""]
    # A bag played at ten times its speed.
    assert outcome([100.0, 105.0, 104.0, 110.0], period_s=0.5) == ["", "", "stamp_backwards", ""]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=12), st.integers(3, 10**5))
def test_one_or_two_stamps_of_the_future_never_cost_a_good_frame(runs, ahead_s):
    is_future = [wrong for future, good in runs for wrong in [True] * future + [False] * good]
    stamps_s = [100 + n / 10 + ahead_s * wrong for n, wrong in enumerate(is_future)]
    assert not any(reason for wrong, reason in zip(is_future, outcome(stamps_s), strict=True) if not wrong)


@given(st.lists(st.integers(1, 10**18), min_size=2, unique=True))
def test_falling_stamps_never_start_a_time_line(stamps):
    """One of them passes if it is far behind the first stamp, because the first may have been wrong."""
    stamps.sort(reverse=True)
    far_behind = [n for n, stamp in enumerate(stamps) if stamps[0] - stamp > SECOND][:1]
    passed = [n for n, reason in enumerate(reasons(stamps)) if reason == ""]
    assert passed == [0, *far_behind]
    assert set(reasons(stamps)) <= {"", "stamp_backwards"}


@given(st.lists(st.integers(-3, 50), max_size=60))
def test_accepted_stamps_rise_except_at_a_restart(stamps):
    found = reasons(stamps)
    newest = 0
    refused = 0
    for stamp, reason in zip(stamps, found, strict=True):
        if reason == "":
            assert stamp >= newest or refused >= RESTART_AFTER - 1
            newest, refused = stamp, 0
        elif reason == "stamp_backwards":
            assert stamp < newest
            refused += 1
