"""HOTA and IDF1 of cases that can be worked out by hand, and what holds for all cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.tracking.scores import ScoredFrame, TrackingScores


def frame(pairs: dict[int, int | None], false_ids: tuple[int, ...] = (), overlap: float = 1.0) -> ScoredFrame:
    """Return a frame of objects with the ids of the boxes on them, None for objects without a box."""
    found = [one for one in pairs.values() if one is not None] + [*false_ids]
    overlaps = np.zeros((len(pairs), len(found)))
    for row, one in enumerate(pairs.values()):
        if one is not None:
            overlaps[row, found.index(one)] = overlap
    return ScoredFrame(np.array([*pairs], np.int64), np.array(found, np.int64), overlaps)


def test_perfect_ids_score_one() -> None:
    scores = TrackingScores.of([frame({7: 1, 8: 2}) for _ in range(5)])
    assert (scores.hota, scores.detection, scores.association_accuracy, scores.idf1) == (1.0, 1.0, 1.0, 1.0)
    assert scores.switches == 0


def test_a_new_id_at_half_time() -> None:
    """Each of the four boxes shares its id and its object in two of four frames."""
    scores = TrackingScores.of([frame({7: 1})] * 2 + [frame({7: 2})] * 2)
    assert scores.detection == pytest.approx(1.0)
    assert scores.association_accuracy == pytest.approx(2 / 4)
    assert scores.hota == pytest.approx(np.sqrt(0.5))
    assert scores.idf1 == pytest.approx(2 * 2 / (4 + 4))
    assert scores.switches == 1


def test_an_object_that_is_found_half_the_time() -> None:
    scores = TrackingScores.of([frame({7: 1}), frame({7: None})] * 2)
    assert scores.detection == pytest.approx(2 / 4)
    assert scores.association_accuracy == pytest.approx(2 / 4)
    assert scores.hota == pytest.approx(0.5)
    assert scores.idf1 == pytest.approx(2 * 2 / (4 + 2))
    assert scores.switches == 0


def test_two_objects_that_change_their_ids() -> None:
    """Of six sights, an id and its object share four frames (first pair of ids) or two, of six together."""
    scores = TrackingScores.of([frame({7: 1, 8: 2})] * 4 + [frame({7: 2, 8: 1})] * 2)
    assert scores.association_accuracy == pytest.approx((8 * 4 / 8 + 4 * 2 / 10) / 12)
    assert scores.idf1 == pytest.approx(2 * 8 / 24)
    assert scores.switches == 2


def test_a_false_track_beside_a_perfect_one() -> None:
    scores = TrackingScores.of([frame({7: 1}, false_ids=(2,)) for _ in range(3)])
    assert scores.detection == pytest.approx(1 / 2)
    assert scores.association_accuracy == pytest.approx(1.0)
    assert scores.idf1 == pytest.approx(2 * 3 / (3 + 6))


@pytest.mark.parametrize(("overlap", "alphas"), [(0.5, 10), (0.52, 10), (0.96, 19), (0.04, 0), (0.05, 1)])
def test_hota_counts_an_overlap_for_each_alpha_up_to_it(overlap: float, alphas: int) -> None:
    scores = TrackingScores.of([frame({7: 1}, overlap=overlap)] * 3)
    assert scores.hota == pytest.approx(alphas / 19)
    assert scores.idf1 == (1.0 if overlap >= 0.5 else 0.0)


def test_of_two_boxes_on_an_object_the_one_that_stays_counts() -> None:
    """The box of another object overlaps a little better in one frame. Its id belongs to the other object."""
    steady = [frame({7: 1, 8: 2}) for _ in range(6)]
    crossing = ScoredFrame(np.array([7, 8]), np.array([1, 2]), np.array([[0.7, 0.75], [0.75, 0.7]]))
    scores = TrackingScores.of([*steady, crossing])
    assert scores.switches == 0
    assert scores.idf1 == 1.0


def test_nothing_to_score_has_no_figures_and_boxes_without_objects_score_zero() -> None:
    assert TrackingScores.of([frame({})]).hota is None
    assert TrackingScores.of([]).idf1 is None
    scores = TrackingScores.of([frame({}, false_ids=(1,))])
    assert (scores.hota, scores.idf1) == (0.0, 0.0)


def test_drives_add_up() -> None:
    """Ids of one drive are not those of another."""
    drive = [frame({7: 1, 8: None})] * 3
    once, other = TrackingScores.of(drive), TrackingScores.of([frame({7: 2})] * 3)
    assert (once + TrackingScores.of(drive)).hota == pytest.approx(once.hota)
    assert (once + other).association_accuracy == pytest.approx(1.0)
    assert (once + other).idf1 == pytest.approx(2 * 6 / (9 + 6))


@st.composite
def drives(draw: st.DrawFn) -> list[ScoredFrame]:
    frames = []
    for _ in range(draw(st.integers(1, 5))):
        true = draw(st.lists(st.integers(1, 4), unique=True, max_size=4))
        found = draw(st.lists(st.integers(1, 5), unique=True, max_size=5))
        overlaps = draw(st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), min_size=20, max_size=20))
        table = np.array(overlaps[: len(true) * len(found)]).reshape(len(true), len(found))
        frames.append(ScoredFrame(np.array(true, np.int64), np.array(found, np.int64), table))
    return frames


@given(drives())
@settings(max_examples=100, deadline=None)
def test_figures_are_shares_and_fit_each_other(frames: list[ScoredFrame]) -> None:
    scores = TrackingScores.of(frames)
    if scores.hota is None:
        return
    shares = (scores.hota, scores.detection, scores.association_accuracy, scores.idf1)
    assert all(share is not None and -1e-9 <= share <= 1 + 1e-9 for share in shares)
    assert scores.identities <= min(scores.true_count, scores.found_count)
    assert (np.diff(scores.pairs) <= 0).all()  # a stricter overlap makes no more pairs
    assert (scores.association <= scores.pairs + 1e-9).all()


@given(drives(), st.permutations(range(1, 6)))
@settings(max_examples=100, deadline=None)
def test_only_the_sameness_of_ids_counts_not_their_values(frames: list[ScoredFrame], names: list[int]) -> None:
    """IDF1 does not depend on names. HOTA may choose among equally good pairs, so only its pairs are compared."""
    renamed = [
        ScoredFrame(f.true_ids, np.array([100 + names[one - 1] for one in f.found_ids], np.int64), f.overlaps)
        for f in frames
    ]
    one, other = TrackingScores.of(frames), TrackingScores.of(renamed)
    assert one.identities == other.identities
    assert (one.true_count, one.found_count) == (other.true_count, other.found_count)
