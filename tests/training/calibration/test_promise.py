"""Test thresholds that promise a share of the objects: the promise holds on what is drawn from the same drives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import made_records

from training.calibration.promise import FoundObjects, by_drive, found_objects, promise_of
from training.evaluation.frame_records import FrameRecords

ALL = ("small", "medium", "large")


def drawn(count: int, seed: int, found: float = 1.0, strength: float = 2.0) -> FoundObjects:
    random = np.random.default_rng(seed)
    scores = random.beta(strength, 2, count)[random.random(count) < found]
    return FoundObjects(np.sort(scores)[::-1], count)


def records_of(scores: list[float], frames: list[int], hits: list[bool], objects: list[int]) -> FrameRecords:
    """Return records of one class; `objects` counts the true boxes of each frame."""
    right = np.tile(np.array(hits), (10, 1))
    return made_records(
        len(objects),
        [],
        ["one"],
        len(scores),
        score=np.array(scores),
        frame=np.array(frames, np.int32),
        hits=right,
        true_boxes=np.array(objects, np.int32)[:, None],
    )


def test_the_promise_holds_on_average_over_many_draws() -> None:
    """Of the objects that come next, at least the promised share is found, on the mean over all draws."""
    shares = []
    for seed in range(400):
        threshold = drawn(30, seed, found=0.97).threshold(0.8)
        assert threshold is not None
        shares.append(drawn(200, 10_000 + seed, found=0.97).share_at(threshold))

    assert 0.8 - 0.01 < np.mean(shares) < 0.87


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 200), seed=st.integers(0, 2**31), found=st.floats(0.3, 1), coverage=st.floats(0.5, 0.98))
def test_a_threshold_finds_its_share_and_there_is_none_where_too_few_are_found(
    count: int, seed: int, found: float, coverage: float
) -> None:
    objects = drawn(count, seed, found)

    threshold = objects.threshold(coverage)

    if threshold is None:
        assert len(objects.scores) < (count + 1) * coverage
    else:
        assert objects.share_at(threshold) >= coverage
        assert objects.share_at(np.nextafter(threshold, 2)) < coverage + 1 / count


def test_few_objects_promise_nothing() -> None:
    assert FoundObjects(np.full(8, 0.9), 8).threshold(0.9) is None
    assert FoundObjects(np.full(9, 0.9), 9).threshold(0.9) == 0.9
    assert np.isnan(FoundObjects(np.zeros(0), 0).share_at(0.5))


def test_boxes_that_are_wrong_and_objects_of_other_sizes_do_not_count() -> None:
    records = records_of([0.9, 0.8, 0.7], [0, 0, 1], [True, False, True], [3, 1])
    by_size = np.zeros((3, 10, 3), np.bool_)
    by_size[2, :, 0] = True
    large = np.zeros((3, 2, 1), np.int32)
    large[2, 0] = 2
    object.__setattr__(records, "hits_by_size", by_size)
    object.__setattr__(records, "true_boxes_by_size", large)

    every = found_objects(records, 0, ALL)
    assert (every.scores.tolist(), every.objects) == ([0.9, 0.7], 4)
    of_size = found_objects(records, 0, ("medium", "large"))
    assert (of_size.scores.tolist(), of_size.objects) == ([0.9], 2)


def test_the_worst_drive_decides_and_small_drives_are_one() -> None:
    scores = [0.9] * 12 + [0.4] * 12 + [0.6] * 6 + [0.7] * 6
    frames = [0] * 12 + [1] * 12 + [2] * 6 + [3] * 6
    records = records_of(scores, frames, [True] * 36, [12, 12, 6, 6])

    drives = by_drive(records, 0, ALL, ["a", "b", "c", "d"], least=10)

    assert {name: found.objects for name, found in drives.items()} == {"a": 12, "b": 12, "": 12}
    promise = promise_of(drives, {"other": FoundObjects(np.full(20, 0.41), 20)}, 0.9, 0.05, 10)
    assert promise.threshold == 0.4
    assert promise.drives == {"a": 0.9, "b": 0.4, "": 0.6}
    assert promise.holds


@pytest.mark.parametrize(
    ("checked", "broken"),
    [(FoundObjects(np.full(85, 0.9), 100), ()), (FoundObjects(np.full(84, 0.9), 100), ("other",))],
)
def test_a_promise_is_broken_beyond_the_tolerance(checked: FoundObjects, broken: tuple[str, ...]) -> None:
    promise = promise_of({"a": drawn(50, 1)}, {"other": checked}, 0.9, 0.05, 20)

    assert promise.broken == broken
    assert promise.holds == (not broken)


def test_a_drive_where_too_few_are_found_and_a_check_of_few_objects_promise_nothing() -> None:
    good, poor = drawn(50, 1), drawn(50, 2, found=0.5)

    assert promise_of({"a": good, "b": poor}, {"c": good}, 0.9, 0.05, 20).threshold is None
    unproved = promise_of({"a": good}, {"c": FoundObjects(np.full(5, 0.9), 5)}, 0.9, 0.05, 20)
    assert unproved.threshold is not None
    assert not unproved.holds
    assert not promise_of({}, {"c": good}, 0.9, 0.05, 20).holds
