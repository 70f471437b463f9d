"""Test the comparison of class maps against a loop over pixels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from ros_kd_perception.differences import masks
from ros_kd_perception.differences.classes import CommonClasses
from ros_kd_perception.differences.masks import class_ious, compare_masks
from ros_kd_perception.model.contract import ClassInfo

UNLABELED = 255


def classes(*names: str) -> tuple[ClassInfo, ...]:
    return tuple(ClassInfo(index, name, (0, 0, 0)) for index, name in enumerate(names))


OLD, NEW = classes("a", "b", "c", "only old"), classes("c", "only new", "a", "b")
COMMON = CommonClasses.of(OLD, NEW, (UNLABELED, 9))
MAPS = np_st.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 3, UNLABELED, 77]))
NEW_MAPS = np_st.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 3, 9, UNLABELED]))


def name_of(side: tuple[ClassInfo, ...], unlabeled: int, value: int) -> str | None:
    """Return the common name of a pixel, `unlabeled`, or None if only this side has it."""
    names = {info.id: info.name for info in side if info.name in COMMON.names} | {unlabeled: "unlabeled"}
    return names.get(value)


@given(old=MAPS, new=NEW_MAPS)
def test_pixels_are_counted_as_a_loop_counts_them(old: np.ndarray, new: np.ndarray) -> None:
    found = compare_masks(old, new, COMMON)
    counted: Counter[tuple[str, str]] = Counter()
    left_out = 0
    for one, other in zip(old.flat, new.flat, strict=True):
        names = name_of(OLD, UNLABELED, int(one)), name_of(NEW, 9, int(other))
        if None in names:
            left_out += 1
        elif names != ("unlabeled", "unlabeled"):
            counted[names] += 1  # type: ignore[index]
    words = [*COMMON.names, "unlabeled"]
    table = [[counted[row, column] for column in words] for row in words]
    assert found.pixels.tolist() == table
    assert (found.left_out, found.compared) == (left_out, counted.total())
    assert found.changed == sum(count for (row, column), count in counted.items() if row != column)


@given(seen=MAPS)
def test_a_map_does_not_differ_from_itself(seen: np.ndarray) -> None:
    same = CommonClasses.of(OLD, OLD, (UNLABELED, UNLABELED))
    found = compare_masks(seen, seen, same)
    assert found.changed == 0
    assert found.changed_share in (None, 0.0)
    ious = class_ious(found.pixels)
    assert set(ious[np.isfinite(ious)]) <= {1.0}


@given(old=MAPS, new=NEW_MAPS)
def test_swapped_sides_give_the_transposed_table(old: np.ndarray, new: np.ndarray) -> None:
    there = compare_masks(old, new, COMMON)
    swapped = CommonClasses.of(NEW, OLD, (9, UNLABELED))
    back = compare_masks(new, old, swapped)
    order = [swapped.names.index(name) for name in COMMON.names] + [len(COMMON.names)]
    assert there.pixels.tolist() == back.pixels[np.ix_(order, order)].T.tolist()
    assert there.left_out == back.left_out
    np.testing.assert_array_equal(class_ious(there.pixels), class_ious(back.pixels)[order[:-1]])


def test_blocks_of_pixels_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    old, new = (random.integers(0, 4, (33, 17), dtype=np.uint8) for _ in range(2))
    whole = compare_masks(old, new, COMMON)
    monkeypatch.setattr(masks, "_BLOCK_PX", 50)
    assert compare_masks(old, new, COMMON).pixels.tolist() == whole.pixels.tolist()


def test_every_id_can_be_a_class() -> None:
    many = tuple(ClassInfo(index, f"class {index}", (0, 0, 0)) for index in range(255))
    seen = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = compare_masks(seen, seen, CommonClasses.of(many, many, (255, 255)))
    assert (found.compared, found.changed, found.left_out) == (255, 0, 0)


def test_iou_of_classes() -> None:
    same = CommonClasses.of(OLD, OLD, (UNLABELED, UNLABELED))
    old = np.array([[0, 0, 0, 1]], np.uint8)
    new = np.array([[0, 0, 1, 1]], np.uint8)
    ious = class_ious(compare_masks(old, new, same).pixels)
    np.testing.assert_allclose(ious, [2 / 3, 1 / 2, np.nan, np.nan])
