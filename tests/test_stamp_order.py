from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.stamp_order import RESTART_AFTER, StampOrder
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


def test_cameras_have_time_lines_of_their_own():
    order = StampOrder()
    assert reasons([100], order, "front") + reasons([50], order, "left") == ["", ""]


def test_a_looped_bag_loses_two_frames():
    found = reasons([100, 200, 300, 100, 200, 300, 400])
    assert found == ["", "", "", "stamp_backwards", "stamp_backwards", "", ""]


def test_a_looped_bag_whose_stamps_come_in_pairs_loses_two_of_them():
    once = [stamp for stamp in (100, 200, 300, 400, 500) for _ in range(2)]
    assert reasons(once + once) == [""] * 10 + ["stamp_backwards"] * 4 + [""] * 6


@given(st.lists(st.integers(1, 10**18), min_size=2, unique=True))
def test_falling_stamps_never_become_a_time_line(stamps):
    assert reasons(sorted(stamps, reverse=True))[1:] == ["stamp_backwards"] * (len(stamps) - 1)


@given(st.lists(st.integers(-3, 50), max_size=60))
def test_what_passes_rises_except_at_a_restart(stamps):
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
