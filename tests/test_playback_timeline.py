"""Tests when images are due during playback, and which gaps are skipped."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.playback_timeline import (
    JUMP_S,
    LONGEST_GAP_S,
    MAX_TOLD_JUMPS,
    RATE_IMAGES,
    PlaybackTimeline,
    images_per_second,
    jump_sentences,
    played_part,
)

S = 1_000_000_000
TODAY = 1_760_000_000 * S


@dataclass(frozen=True)
class Image:
    log_time_ns: int


def placed(*seconds: float, start_ns: int = TODAY, keep_gaps: bool = False) -> list[float]:
    timeline = PlaybackTimeline(keep_gaps)
    return [timeline.place(start_ns + round(second * S)) / S for second in seconds]


def test_the_first_image_is_due_at_once_and_the_others_at_their_recorded_distance() -> None:
    assert placed(70, 70.1, 70.3, 79) == [0, 0.1, 0.3, 9]


def test_a_gap_of_the_longest_length_is_played_and_a_longer_one_skipped() -> None:
    assert placed(0, LONGEST_GAP_S) == [0, LONGEST_GAP_S]
    assert placed(0, LONGEST_GAP_S + 0.001, LONGEST_GAP_S + 0.101) == [0, JUMP_S, JUMP_S + 0.1]


def test_a_clock_that_was_set_is_skipped_in_both_directions() -> None:
    assert placed(5, 5.1, 1_760_000_000, 1_760_000_000.1, start_ns=0) == [0, 0.1, 0.1 + JUMP_S, 0.2 + JUMP_S]
    assert placed(3600, 3600.1, 0, 0.1) == [0, 0.1, 0.1 + JUMP_S, 0.2 + JUMP_S]
    assert placed(10, 10.1, 5, 5.1) == [0, 0.1, 0.1 + JUMP_S, 0.2 + JUMP_S]


def test_images_slightly_out_of_order_are_due_at_once() -> None:
    assert placed(0, 0.5, 0.4, 0.1, 0.6) == [0, 0.5, 0.5, 0.5, 0.6]


def test_gaps_can_be_kept_but_a_step_back_is_always_skipped() -> None:
    assert placed(0, 3600, 3601, keep_gaps=True) == [0, 3600, 3601]
    assert placed(3600, 0, 1, keep_gaps=True) == [0, JUMP_S, JUMP_S + 1]


def test_other_messages_do_not_change_the_timeline() -> None:
    timeline = PlaybackTimeline()
    assert timeline.place_beside(TODAY - 3600 * S) == 0  # a CameraInfo from before the cameras
    timeline.place(TODAY)
    assert timeline.place_beside(TODAY + S // 2) == S // 2
    assert timeline.place_beside(0) == 0
    assert timeline.place_beside(TODAY + 3600 * S) == JUMP_S * S
    assert timeline.place(TODAY + 2 * S) == 2 * S


def test_the_log_time_runs_on_at_the_start_of_a_gap_and_jumps_before_its_end() -> None:
    timeline = PlaybackTimeline()
    for second in (0, 1, 100, 101):
        timeline.place(TODAY + second * S)
    seconds = [(timeline.log_time_ns(round(p * S)) - TODAY) / S for p in (0, 0.5, 1, 1.4, 1.5, 1.9, 2, 2.5, 3)]
    assert seconds == [0, 0.5, 1, 1.4, 99.5, 99.9, 100, 100.5, 101]


def test_the_sentence_of_a_jump_names_its_time_and_length() -> None:
    timeline = PlaybackTimeline()
    for second in (0, 12, 12 + 2.5 * 3600, 0):
        timeline.place(TODAY + round(second * S))
    forward, back = jump_sentences(timeline.jumps[-2:])
    assert forward == (
        "jumping 2.5 h without a frame of any camera after 1.0 s, "
        "from 2025-10-09 08:53:32 UTC to 2025-10-09 11:23:32 UTC"
    )
    assert back.startswith("the clock of the recording goes back by 2.5 h after 2.0 s, ")


@pytest.mark.parametrize("log_time_ns", [0, 2**62, 2**63 - 1])
def test_any_log_time_can_be_placed_and_printed(log_time_ns: int) -> None:
    timeline = PlaybackTimeline()
    timeline.place(TODAY)
    timeline.place(log_time_ns)
    assert "days" in str(timeline.jumps[0])


def test_many_jumps_are_counted() -> None:
    timeline = PlaybackTimeline()
    for minute in range(100):
        timeline.place(TODAY + minute * 60 * S)
    assert len(timeline.jumps) == 99
    assert jump_sentences(timeline.jumps)[MAX_TOLD_JUMPS:] == [f"jumping {99 - MAX_TOLD_JUMPS} more gaps"]


def test_a_jump_after_the_end_of_a_part_does_not_count() -> None:
    images = [Image(TODAY + k * S // 10) for k in range(30)] + [Image(TODAY + 3600 * S)]
    timeline = PlaybackTimeline()
    assert len(list(played_part(images, 2, timeline))) == 20
    assert not timeline.jumps
    assert len(list(played_part(images, 0, PlaybackTimeline()))) == 31
    # 2.9 s until the gap and 1 s of the gap.
    assert len(list(played_part(images, 3.95, PlaybackTimeline()))) == 31
    assert len(list(played_part(images, 3.9, PlaybackTimeline()))) == 30


def test_pauses_of_a_camera_do_not_change_its_rate() -> None:
    on = [Image(TODAY + k * S // 10) for k in range(31)]
    assert images_per_second(on) == pytest.approx(10)
    assert images_per_second([*on, Image(TODAY + 8 * S), Image(TODAY + 100 * S)]) == pytest.approx(10)
    pairs = [Image(TODAY + (k // 2) * S // 5 + k % 2) for k in range(40)]
    assert images_per_second(pairs) == pytest.approx(10, rel=0.05)
    assert images_per_second([Image(TODAY + k * 60 * S) for k in range(9)]) == pytest.approx(1 / JUMP_S)
    assert images_per_second(on[:1]) == images_per_second([]) == 0
    slow_later = [*(Image(TODAY + k * S // 30) for k in range(RATE_IMAGES)), Image(TODAY + 20 * S)]
    assert images_per_second(slow_later) == pytest.approx(30)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30))
def test_positions_rise_by_no_more_than_the_longest_gap(log_times_ns: list[int]) -> None:
    timeline = PlaybackTimeline()
    positions_ns = [timeline.place(log_time_ns) for log_time_ns in log_times_ns]
    steps_ns = [after - before for before, after in itertools.pairwise(positions_ns)]
    assert positions_ns[0] == 0
    assert all(0 <= step <= LONGEST_GAP_S * S for step in steps_ns)
    # The log time at an image's position is that image's log time, except for late images.
    latest_ns = log_times_ns[0]
    for log_time_ns, position_ns in zip(log_times_ns, positions_ns, strict=True):
        if 0 <= latest_ns - log_time_ns <= JUMP_S * S:
            continue
        latest_ns = log_time_ns
        assert timeline.log_time_ns(position_ns) == log_time_ns


@given(st.lists(st.integers(0, 9 * S), min_size=1, max_size=30), st.integers(0, 2**62))
def test_without_gaps_playback_equals_the_recording(steps_ns: list[int], start_ns: int) -> None:
    timeline = PlaybackTimeline()
    log_time_ns = start_ns
    for step_ns in steps_ns:
        log_time_ns += step_ns
        position_ns = timeline.place(log_time_ns)
        assert position_ns == log_time_ns - start_ns - steps_ns[0]
        assert timeline.log_time_ns(position_ns) == log_time_ns
    assert timeline.jumps == []
