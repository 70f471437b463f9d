"""Compares the free-space boundary with a plain loop over rows, on generated masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_student import CONTRACT

from ros_kd_perception.free_space.boundary import blocked_classes, free_space_boundary
from ros_kd_perception.model.contract import ContractError, ModelContract

ROAD, PAVEMENT = 3, 4
BLOCKED = blocked_classes(CONTRACT, ["road"])


def boundary_by_loop(class_map: np.ndarray, drivable: set[int], max_gap_px: int, ignore_bottom_px: int) -> list[int]:
    """Implement the docstring of `free_space_boundary` as a loop over columns and rows."""
    height, width = class_map.shape
    boundary = []
    for column in range(width):
        row = height - 1 - min(ignore_bottom_px, height - 1)
        answer = -1
        while row >= 0:
            if class_map[row, column] in drivable:
                row -= 1
                continue
            end = row
            while end >= 0 and class_map[end, column] not in drivable:
                end -= 1
            if row - end > max_gap_px or end < 0:
                answer = row
                break
            row = end
        boundary.append(answer)
    return boundary


@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 150), st.integers(1, 6)),
        elements=st.sampled_from([ROAD, ROAD, ROAD, PAVEMENT, 0, 255]),
    ),
    st.integers(0, 12),
    st.integers(0, 160),
)
def test_the_boundary_equals_the_loop(class_map: np.ndarray, max_gap_px: int, ignore_bottom_px: int) -> None:
    boundary = free_space_boundary(class_map, BLOCKED, max_gap_px, ignore_bottom_px)
    assert boundary.dtype == np.int32
    assert boundary.tolist() == boundary_by_loop(class_map, {ROAD}, max_gap_px, ignore_bottom_px)


@given(st.integers(1, 400), st.integers(0, 100), st.data())
def test_one_obstacle_on_an_empty_road(height: int, max_gap_px: int, data: st.DataObject) -> None:
    """Columns and gaps may be longer than a block of rows."""
    lowest = data.draw(st.integers(0, height - 1))
    size = data.draw(st.integers(1, lowest + 1))
    class_map = np.full((height, 3), ROAD, np.uint8)
    class_map[lowest - size + 1 : lowest + 1, 1] = PAVEMENT
    boundary = free_space_boundary(class_map, BLOCKED, max_gap_px)
    ends_it = size > max_gap_px or size == lowest + 1
    assert boundary.tolist() == [-1, lowest if ends_it else -1, -1]


def test_class_maps_may_have_any_strides() -> None:
    class_map = np.random.default_rng(0).choice([ROAD, PAVEMENT], (130, 64)).astype(np.uint8)
    view = class_map[:, ::2]
    expected = boundary_by_loop(view, {ROAD}, 1, 0)
    assert free_space_boundary(view, BLOCKED, 1).tolist() == expected


def test_drivable_classes_are_found_by_name() -> None:
    table = blocked_classes(CONTRACT, ["road", "pavement"])
    assert np.flatnonzero(table == 0).tolist() == [ROAD, PAVEMENT]
    assert table[255] == 255
    with pytest.raises(ValueError, match="'raod'; did you mean road"):
        blocked_classes(CONTRACT, ["road", "raod"])


def test_by_default_the_file_names_what_is_drivable() -> None:
    named = replace(CONTRACT, class_map=replace(CONTRACT.class_map, drivable=("pavement",)))
    again = ModelContract.from_json(named.to_json())
    assert np.flatnonzero(blocked_classes(again, ["auto"]) == 0).tolist() == [PAVEMENT]
    assert np.flatnonzero(blocked_classes(again, ["road"]) == 0).tolist() == [ROAD]
    assert np.flatnonzero(blocked_classes(CONTRACT, ["auto"]) == 0).tolist() == [ROAD]
    with pytest.raises(ContractError, match=r"names of class_map.classes in class_map.drivable"):
        replace(CONTRACT, class_map=replace(CONTRACT.class_map, drivable=("pavment",)))
