"""Flicker of class maps whose flips are known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.sample_drive.flow import Flow
from training.stability.flicker import FlickerCounts, flicker_map, in_cells

SHAPE = (60, 160)  # an edge may move by one pixel


def still(dx: int = 0, dy: int = 0) -> Flow:
    """Return the motion of a scene in which each pixel was `dx` further right and `dy` further down before."""
    columns, rows = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    places = np.stack([columns + dx, rows + dy], axis=-1).astype(np.float32)
    inside = ((places >= 0) & (places <= [SHAPE[1] - 1, SHAPE[0] - 1])).all(axis=-1)
    return Flow(places, inside)


def halves(at: int = 80) -> np.ndarray:
    class_map = np.zeros(SHAPE, np.uint8)
    class_map[:, at:] = 1
    return class_map


def test_nothing_flips_where_nothing_changes() -> None:
    counts = flicker_map(halves(), halves(), still()).counts(3)
    assert counts.pixels.tolist() == [60 * 80, 60 * 80, 0]
    assert counts.share == counts.share_beyond_edges == 0


@given(dx=st.integers(-20, 20), dy=st.integers(-20, 20), seed=st.integers(0, 99))
def test_what_moves_with_the_flow_does_not_flip(dx: int, dy: int, seed: int) -> None:
    earlier = np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)
    later = np.roll(earlier, (-dy, -dx), axis=(0, 1))
    found = flicker_map(earlier, later, still(dx, dy))
    assert not found.flips.any()
    assert found.counted.sum() == (SHAPE[0] - abs(dy)) * (SHAPE[1] - abs(dx))


def test_an_edge_that_moves_a_little_flips_along_edges_only() -> None:
    found = flicker_map(halves(80), halves(81), still())
    assert found.flips.sum() == 60
    assert not found.beyond_edges.any()


def test_an_edge_that_moves_far_flips_beyond_edges() -> None:
    counts = flicker_map(halves(80), halves(90), still()).counts(2)
    assert counts.flips.tolist() == [0, 600]
    # In each row, one pixel is near class 1 of the later frame, and another one near class 0 of the earlier frame.
    assert counts.beyond_edges.tolist() == [0, 600]


def test_a_speck_that_appears_lies_beyond_edges() -> None:
    later = halves()
    later[30, 20] = 2
    counts = flicker_map(halves(), later, still()).counts(3)
    assert (counts.flips.sum(), counts.beyond_edges.sum()) == (1, 1)


def test_hidden_and_unlabelled_pixels_do_not_count() -> None:
    later = halves()
    later[:, 80:] = 0
    later[:10] = 255
    flow = still()
    flow.visible[:, 100:] = False
    counts = flicker_map(halves(), later, flow).counts(2)
    assert counts.pixels.tolist() == [50 * 80, 50 * 20]
    assert counts.flips.tolist() == [0, 50 * 20]
    assert FlickerCounts.none(2).share is None
    assert (counts + counts).share == counts.share


@given(cell_px=st.floats(1, 12), seed=st.integers(0, 99))
def test_cells_hold_the_commonest_class(cell_px: float, seed: int) -> None:
    plain = np.full(SHAPE, 5, np.uint8)
    assert (in_cells(plain, cell_px) == 5).all()
    labels = np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)
    found = in_cells(labels, cell_px)
    assert found.shape == SHAPE
    assert {*np.unique(found)} <= {0, 1, 2, 3}


def test_a_thin_object_vanishes_in_large_cells_and_stays_in_pixels() -> None:
    labels = halves()
    labels[:, 41] = 2
    assert (in_cells(labels, 1) == labels).all()
    assert 2 not in in_cells(labels, 4)
    assert (in_cells(halves(82), 4)[:, [79, 84]] == [0, 1]).all()


def test_perfect_cells_flip_where_pixels_do_not() -> None:
    earlier, later = halves(81), halves(83)
    moved = still(dx=-2)
    assert not flicker_map(earlier, later, moved).flips.any()
    assert flicker_map(in_cells(earlier, 4), in_cells(later, 4), moved).flips.any()
