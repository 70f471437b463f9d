"""Tests confidence masks: each pixel has the confidence of its cell in the network's input, wherever the frame lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_student import write_tiny_student

from ros_kd_perception.model.confidence import confidence_at, confidence_mask
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Frame, Perception, RegionOfInterest, Timing, UncertaintyCells


def perception(uncertainty: np.ndarray | None, height: int, width: int, cells: UncertaintyCells | None) -> Perception:
    class_map = np.zeros((height, width), np.uint8)
    return Perception("front", 1, "optical", class_map, None, uncertainty, Timing(0.0, 0.0, 0.0), cells)


def test_255_is_sure_and_0_is_no_idea() -> None:
    values = np.array([[0.0, 0.5, 1.0, 1.5]], np.float32)
    mask = confidence_mask(perception(values, 32, 128, UncertaintyCells(RegionOfInterest(0, 0, 128, 32), 32, 32)))
    assert mask.dtype == np.uint8
    assert mask.flags.c_contiguous
    np.testing.assert_array_equal(mask, np.repeat([[255, 128, 0, 0]], 32, axis=0).repeat(32, axis=1))


def test_pixels_outside_of_the_region_have_no_confidence() -> None:
    cells = UncertaintyCells(RegionOfInterest(10, 20, 40, 30), 32.0, 32.0)
    mask = confidence_mask(perception(np.zeros((1, 2), np.float32), 60, 80, cells))
    assert (mask[20:50, 10:50] == 255).all()
    assert np.count_nonzero(mask) == 30 * 40


def test_a_model_without_uncertainty_has_no_confidence() -> None:
    assert confidence_mask(perception(None, 4, 4, None)) is None
    assert confidence_mask(replace(perception(None, 4, 4, None), class_map=None)) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(33, 300), st.integers(33, 300), st.integers(1, 160), st.integers(1, 160), st.integers(0, 40),
       st.integers(0, 40), st.integers(1, 7))  # fmt: skip
def test_a_grid_has_the_values_of_the_whole_mask(
    height: int, width: int, rows: int, columns: int, x: int, y: int, side: int
) -> None:
    x, y = min(x, width - 1), min(y, height - 1)
    region = RegionOfInterest(x, y, min(columns, width - x), min(rows, height - y))
    cells = UncertaintyCells(region, region.height / 2.5, region.width / 3.25)
    values = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    seen = perception(values, height, width, cells)
    whole = confidence_mask(seen)
    grid = confidence_at(seen, range(side // 2, height, side), range(side // 2, width, side))
    np.testing.assert_array_equal(grid, whole[side // 2 :: side, side // 2 :: side])
    for row, column in ((0, 0), (height - 1, width - 1), (height // 2, width // 2)):
        inside = region.y <= row < region.y + region.height and region.x <= column < region.x + region.width
        cell = (
            min(int((row - region.y + 0.5) / cells.height_px), 2),
            min(int((column - region.x + 0.5) / cells.width_px), 3),
        )
        assert whole[row, column] == (round(255 * (1 - float(values[cell]))) if inside else 0)


@pytest.fixture(scope="module")
def perceiver(tmp_path_factory: pytest.TempPathFactory) -> Perceiver:
    return Perceiver.open(write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


@pytest.mark.parametrize("region", [None, RegionOfInterest(20, 10, 120, 70)])
def test_perceptions_say_where_the_cells_of_their_uncertainty_are(
    perceiver: Perceiver, region: RegionOfInterest | None
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (96, 160, 3), np.uint8)
    prepared = perceiver.prepare(Frame.from_image(image), region=region)
    [seen] = perceiver.perceive_prepared([prepared])
    geometry = prepared.geometry
    cells = seen.uncertainty_cells
    assert cells.region == (region or RegionOfInterest(0, 0, 160, 96))
    rows, columns = seen.uncertainty.shape
    assert rows == int(np.ceil(geometry.placed_height / 32))
    assert columns == int(np.ceil(geometry.placed_width / 32))
    assert cells.height_px * geometry.placed_height == pytest.approx(32 * cells.region.height)
    assert cells.width_px * geometry.placed_width == pytest.approx(32 * cells.region.width)
    mask = confidence_mask(seen)
    middle = int(cells.region.y + cells.height_px / 2), int(cells.region.x + cells.width_px / 2)
    assert mask[middle] == round(255 * (1 - float(seen.uncertainty[0, 0])))
    cropped = confidence_mask(seen.cropped(cells.region))
    np.testing.assert_array_equal(cropped, mask[cells.region.rows, cells.region.columns])
