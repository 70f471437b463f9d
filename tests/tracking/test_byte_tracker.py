"""ByteTracker: ids stay with their objects, through crossings, lost frames and bad scores, and are never used again."""

import dataclasses
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_kd_perception.structures import Detections
from ros_kd_perception.tracking import byte_tracker
from ros_kd_perception.tracking.byte_tracker import NO_TRACK, ByteTracker, TrackingSettings

MS = 1_000_000
FRAME = 100 * MS


def boxes(*rows: tuple[float, float, float, float], scores: list[float] | None = None, labels: list[int] | None = None
          ) -> Detections:  # fmt: skip
    """Return detections of boxes given by centre, width and height."""
    values = np.array(rows, np.float32).reshape(-1, 4)
    half = values[:, 2:] / 2
    return Detections(
        np.hstack((values[:, :2] - half, values[:, :2] + half)),
        np.array([0.9] * len(rows) if scores is None else scores, np.float32),
        np.array([0] * len(rows) if labels is None else labels, np.int32),
    )


def ids_of(tracker: ByteTracker, frames: list[Detections], step_ns: int = FRAME) -> list[list[int]]:
    return [tracker.update(number * step_ns, frame).tolist() for number, frame in enumerate(frames)]


def test_perfect_boxes_keep_their_ids() -> None:
    frames = [
        boxes((100 + 8 * i, 100, 60, 40), (400 - 5 * i, 200, 30, 80), (300, 50 + 2 * i, 20, 20)) for i in range(30)
    ]
    assert ids_of(ByteTracker(TrackingSettings()), frames) == [[1, 3, 2]] * 30  # from the left


def test_objects_that_cross_keep_their_ids() -> None:
    """At the crossing both boxes overlap. Only their motion says which is which."""
    frames = [boxes((100 + 12 * i, 200, 60, 40), (460 - 12 * i, 206, 60, 40)) for i in range(31)]
    assert ids_of(ByteTracker(TrackingSettings()), frames) == [[1, 2]] * 31


def test_a_fast_object_of_a_slow_camera_is_followed_by_its_motion() -> None:
    """From one frame to the next it moves by its width, so boxes of neighbouring frames do not overlap."""
    starts = [boxes((100, 100, 60, 40)), boxes((125, 100, 60, 40)), boxes((165, 100, 60, 40))]
    frames = [*starts, *(boxes((165 + 61 * i, 100, 60, 40)) for i in range(1, 9))]
    assert {ids[0] for ids in ids_of(ByteTracker(TrackingSettings()), frames)} == {1}


@pytest.mark.parametrize("missing", [[5], [5, 6], [5, 6, 7, 8]])
@pytest.mark.parametrize("frame_is_lost", [True, False], ids=["frame lost", "object missed"])
def test_an_id_outlasts_missing_sights(missing: list[int], frame_is_lost: bool) -> None:
    tracker, seen = ByteTracker(TrackingSettings()), []
    for number in range(14):
        frame = boxes((100 + 12 * number, 100, 60, 40))
        if number not in missing:
            seen += tracker.update(number * FRAME, frame).tolist()
        elif not frame_is_lost:
            assert not len(tracker.update(number * FRAME, boxes()))
    assert set(seen) == {1}


def test_a_track_that_was_not_seen_for_too_long_is_forgotten() -> None:
    tracker = ByteTracker(TrackingSettings(max_lost_s=0.5))
    first = tracker.update(0, boxes((100, 100, 60, 40))).tolist()
    for number in range(1, 7):
        tracker.update(number * FRAME, boxes())
    assert not len(tracker)
    assert tracker.update(7 * FRAME, boxes((100, 100, 60, 40))).tolist() != first


@pytest.mark.parametrize(("jump_ns", "is_kept"), [(FRAME, True), (1000 * MS, True), (1001 * MS, False), (-1, False)])
def test_stamps_that_jump_forget_all_tracks_and_use_no_id_again(jump_ns: int, is_kept: bool) -> None:
    tracker, frame = ByteTracker(TrackingSettings(max_lost_s=1.0)), boxes((100, 100, 60, 40), (300, 100, 60, 40))
    start = 1_700_000_000 * 10**9
    assert tracker.update(start, frame).tolist() == [1, 2]
    assert tracker.update(start + jump_ns, frame).tolist() == ([1, 2] if is_kept else [3, 4])


def test_a_low_score_continues_a_track_and_begins_none() -> None:
    tracker = ByteTracker(TrackingSettings(high_score=0.6))
    frame = boxes((100, 100, 60, 40), (300, 100, 60, 40), scores=[0.9, 0.3])
    assert tracker.update(0, frame).tolist() == [1, NO_TRACK]
    assert tracker.update(FRAME, boxes((101, 100, 60, 40), scores=[0.2])).tolist() == [1]
    assert tracker.update(2 * FRAME, boxes((102, 100, 60, 40), scores=[0.9])).tolist() == [1]


def test_a_lost_track_does_not_wake_up_for_a_low_score() -> None:
    tracker = ByteTracker(TrackingSettings())
    tracker.update(0, boxes((100, 100, 60, 40)))
    tracker.update(FRAME, boxes())
    assert tracker.update(2 * FRAME, boxes((100, 100, 60, 40), scores=[0.3])).tolist() == [NO_TRACK]
    assert tracker.update(3 * FRAME, boxes((100, 100, 60, 40))).tolist() == [1]


def test_high_scores_choose_first() -> None:
    """A better overlap of a low score does not take the track from a box of a high score."""
    tracker = ByteTracker(TrackingSettings())
    tracker.update(0, boxes((100, 100, 60, 40)))
    found = boxes((100, 100, 60, 40), (110, 100, 60, 40), scores=[0.3, 0.9])
    assert tracker.update(FRAME, found).tolist() == [NO_TRACK, 1]


def test_a_sight_of_one_frame_is_forgotten_at_once() -> None:
    tracker, steady = ByteTracker(TrackingSettings()), (100.0, 100.0, 60.0, 40.0)
    tracker.update(0, boxes(steady))
    assert tracker.update(FRAME, boxes(steady, (400, 100, 60, 40))).tolist() == [1, 2]
    tracker.update(2 * FRAME, boxes(steady))
    assert len(tracker) == 1
    assert tracker.update(3 * FRAME, boxes(steady, (400, 100, 60, 40))).tolist() == [1, 3]


def test_a_track_has_one_class() -> None:
    tracker = ByteTracker(TrackingSettings())
    tracker.update(0, boxes((100, 100, 60, 40), labels=[0]))
    assert tracker.update(FRAME, boxes((100, 100, 60, 40), labels=[1])).tolist() == [2]
    both = boxes((100, 100, 60, 40), (100, 100, 60, 40), labels=[1, 0])
    assert tracker.update(2 * FRAME, both).tolist() == [2, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_numbers_are_refused_and_change_nothing(bad: float) -> None:
    tracker, frame = ByteTracker(TrackingSettings()), boxes((100, 100, 60, 40))
    tracker.update(0, frame)
    for field in ("boxes_xyxy", "scores"):
        values = getattr(frame, field).copy()
        values.flat[0] = bad
        with pytest.raises(ValueError, match="expected finite boxes and scores"):
            tracker.update(FRAME, dataclasses.replace(frame, **{field: values}))
    assert tracker.update(FRAME, frame).tolist() == [1]


def test_the_number_of_tracks_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_tracker, "MAX_TRACKS", 5)
    tracker = ByteTracker(TrackingSettings())
    row = [(100.0 * i, 100.0, 60.0, 40.0) for i in range(8)]
    first = tracker.update(0, boxes(*row[:4]))
    assert (first > 0).all()
    # All four are lost. The oldest of them make room, and three of seven new boxes get no track.
    ids = tracker.update(FRAME, boxes(*((x, 500.0, w, h) for x, _, w, h in row[:7]))).tolist()
    assert len(tracker) == 5
    assert ids.count(NO_TRACK) == 2
    assert len(set(ids)) == 6


COORDINATES = st.integers(0, 300).map(float)
ONE_BOX = st.tuples(COORDINATES, COORDINATES, st.integers(1, 120).map(float), st.integers(1, 120).map(float))
ROWS = st.lists(st.tuples(ONE_BOX, st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.integers(0, 2)), max_size=12)
STEPS = st.sampled_from([0, 1, 40 * MS, 100 * MS, 900 * MS, 1100 * MS, -50 * MS])


def detections_of(rows: list[tuple[tuple[float, float, float, float], float, int]]) -> Detections:
    return boxes(*(row[0] for row in rows), scores=[row[1] for row in rows], labels=[row[2] for row in rows])


@given(st.lists(st.tuples(STEPS, ROWS), max_size=8))
@settings(max_examples=150, deadline=None)
def test_no_two_boxes_have_one_id_and_no_id_comes_back(frames: list[tuple[int, list]]) -> None:
    tracker, stamp_ns = ByteTracker(TrackingSettings()), 10**12
    classes: dict[int, int] = {}
    ended: set[int] = set()
    for step_ns, rows in frames:
        stamp_ns += step_ns
        before = tracker.next_id
        found = detections_of(rows)
        ids = tracker.update(stamp_ns, found)
        given_ids = ids[ids != NO_TRACK].tolist()
        assert ids.dtype == np.int64
        assert len(ids) == len(rows)
        assert len(set(given_ids)) == len(given_ids)
        assert all(0 < one < tracker.next_id for one in given_ids)
        assert (ids[found.scores >= 0.5] != NO_TRACK).all()
        for one, label in zip(ids.tolist(), found.labels.tolist(), strict=True):
            assert one == NO_TRACK or classes.setdefault(one, label) == label
        assert not ended & set(given_ids)
        if step_ns < 0 or step_ns > 1000 * MS:
            ended |= set(range(1, before))
        assert not ended & set(given_ids)


@given(st.lists(st.tuples(STEPS, ROWS), max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_order_of_boxes_does_not_matter(frames: list[tuple[int, list]], random: Random) -> None:
    plain, mixed, stamp_ns = ByteTracker(TrackingSettings()), ByteTracker(TrackingSettings()), 0
    for step_ns, rows in frames:
        stamp_ns += step_ns
        order = list(range(len(rows)))
        random.shuffle(order)
        ids = plain.update(stamp_ns, detections_of(rows))
        shuffled = mixed.update(stamp_ns, detections_of([rows[place] for place in order]))
        # Boxes that are equal in all numbers may change their places.
        assert sorted(zip(ids.tolist(), map(repr, rows), strict=True)) == sorted(
            zip(shuffled.tolist(), (repr(rows[place]) for place in order), strict=True)
        )
