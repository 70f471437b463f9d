"""Test how boxes of two sides are matched, lost and new."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.differences.boxes import BOX_COLUMNS, compare_boxes
from ros_kd_perception.differences.classes import CommonClasses
from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import Detections

NAMES = ("a", "b", "c")
CLASSES = tuple(ClassInfo(index, name, (0, 0, 0)) for index, name in enumerate(NAMES))
SAME = CommonClasses.of(CLASSES, CLASSES)


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Return boxes: left, top, right, bottom, score and label each."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4].copy(), table[:, 4].copy(), table[:, 5].astype(np.int32))


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    # Few places and sizes, so that boxes are often equal or overlap by the same share.
    side, size = st.integers(0, 6), st.integers(0, 5)
    row = st.tuples(side, side, size, size, st.sampled_from([0.3, 0.5, 0.9]), st.integers(0, 2))
    rows = draw(st.lists(row, max_size=8))
    return found(*((x, y, x + width, y + height, score, label) for x, y, width, height, score, label in rows))


@given(seen=detections())
def test_boxes_do_not_differ_from_themselves(seen: Detections) -> None:
    difference = compare_boxes(seen, seen, SAME)
    assert len(difference.lost) == len(difference.gained) == difference.renamed == difference.left_out == 0
    assert set(difference.ious) <= {1.0}
    assert set(difference.score_changes) <= {0.0}


@given(old=detections(), new=detections())
def test_swapped_sides_swap_lost_and_new(old: Detections, new: Detections) -> None:
    there, back = compare_boxes(old, new, SAME), compare_boxes(new, old, SAME)
    assert sorted(there.matched) == sorted((column, row) for row, column in back.matched)
    np.testing.assert_array_equal(there.lost.boxes_xyxy, back.gained.boxes_xyxy)
    np.testing.assert_array_equal(there.gained.boxes_xyxy, back.lost.boxes_xyxy)
    np.testing.assert_array_equal(np.sort(there.ious), np.sort(back.ious))
    assert there.renamed == back.renamed


@given(old=detections(), new=detections())
def test_every_box_is_matched_once_or_left_over(old: Detections, new: Detections) -> None:
    difference = compare_boxes(old, new, SAME)
    rows, columns = (list(side) for side in zip(*difference.matched, strict=True)) if difference.matched else ([], [])
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert len(difference.lost) + len(rows) == len(difference.old)
    assert len(difference.gained) + len(rows) == len(difference.new)
    assert (difference.old.labels[rows] == difference.new.labels[columns]).all()
    assert (difference.ious >= 0.5).all()
    sums = dict(zip(BOX_COLUMNS, difference.table(len(NAMES)).sum(axis=0).tolist(), strict=True))
    assert [sums[column] for column in ("old", "new", "matched")] == [
        len(difference.old), len(difference.new), len(rows),
    ]  # fmt: skip
    np.testing.assert_allclose(sums["iou_sum"], difference.ious.sum())
    np.testing.assert_allclose(sums["score_change_sum"], difference.score_changes.sum(), atol=1e-6)


def test_classes_are_matched_by_name() -> None:
    other = tuple(ClassInfo(index, name, (0, 0, 0)) for index, name in enumerate(("b", "x", "a")))
    common = CommonClasses.of(CLASSES, other)
    old = found((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 1), (40, 0, 50, 10, 0.7, 2))  # a, b, c
    new = found((0, 0, 10, 10, 0.5, 2), (20, 0, 30, 10, 0.8, 0), (40, 0, 50, 10, 0.7, 1))  # a, b, x
    difference = compare_boxes(old, new, common)
    assert (common.names, common.only_old, common.only_new) == (("a", "b"), ("c",), ("x",))
    assert len(difference.matched) == 2
    assert difference.left_out == 2  # c and x
    np.testing.assert_allclose(difference.table(2)[0], [1, 1, 1, 1, -0.4, 0.4], atol=1e-6)


def test_an_object_of_another_class_is_lost_new_and_renamed() -> None:
    old, new = found((0, 0, 10, 10, 0.9, 0)), found((0, 0, 10, 10, 0.9, 1))
    difference = compare_boxes(old, new, SAME)
    assert (len(difference.lost), len(difference.gained), difference.renamed) == (1, 1, 1)


def test_labels_that_no_class_has_and_boxes_without_an_area_are_left_out() -> None:
    old = found((0, 0, 10, 10, 0.9, 0), (0, 0, 0, 10, 0.9, 0), (0, 0, 10, 10, 0.9, 200))
    strange = Detections(old.boxes_xyxy[:1], old.scores[:1], np.array([-1], np.int32))
    assert len(compare_boxes(old, old, SAME).matched) == 1
    assert compare_boxes(old, old, SAME).left_out == 2
    assert compare_boxes(strange, old, SAME).left_out == 2
