import importlib.util

import numpy as np
import pytest
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_kd_perception.model.letterbox import (
    boxes_to_source,
    class_map_to_source,
    letterbox,
    letterbox_geometry,
    stretch,
)

SHARED_CHECK = ROOT.parent / "shared" / "checks" / "camvid_miou.py"
sides = st.integers(1, 700)


def test_a_720p_frame_is_halved_exactly_and_padded_below():
    image = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    out = np.empty((384, 640, 3), np.uint8)
    geometry = letterbox(image, out, 114)
    assert (geometry.placed_height, geometry.placed_width) == (360, 640)
    means = image.reshape(360, 2, 640, 2, 3).mean(axis=(1, 3))
    assert np.abs(out[:360].astype(float) - means).max() <= 0.5
    assert (out[360:] == 114).all()


def test_rows_with_padding_give_the_same_input_as_packed_ones():
    wide = np.random.default_rng(2).integers(0, 256, (90, 200, 3), dtype=np.uint8)
    view = wide[:, :160]
    assert not view.flags.c_contiguous
    outs = [np.empty((64, 96, 3), np.uint8) for _ in range(2)]
    letterbox(view, outs[0], 0)
    letterbox(np.ascontiguousarray(view), outs[1], 0)
    assert (outs[0] == outs[1]).all()


@given(height=sides, width=sides)
@settings(deadline=None)
def test_class_map_to_source_keeps_every_cell_of_the_image_and_drops_the_padding(height, width):
    geometry = letterbox_geometry(height, width, 64, 96)
    class_map = np.full((16, 24), 255, np.uint8)
    rows, columns = -(-geometry.placed_height // 4), -(-geometry.placed_width // 4)
    class_map[:rows, :columns] = 7
    source = class_map_to_source(class_map, 4, geometry)
    assert source.shape == (height, width)
    assert source.flags.c_contiguous
    assert (source == 7).all()


@given(
    height=sides, width=sides, rows=st.integers(1, 20), columns=st.integers(1, 20), stride=st.sampled_from([1, 2, 4])
)
@settings(deadline=None)
def test_each_pixel_gets_the_class_of_the_cell_that_contains_its_centre(height, width, rows, columns, stride):
    geometry = letterbox_geometry(height, width, rows * stride, columns * stride)
    class_map = np.random.default_rng(rows * columns).integers(0, 256, (rows, columns), dtype=np.uint8)
    y = np.minimum(((np.arange(height) + 0.5) * (geometry.placed_height / height) / stride).astype(int), rows - 1)
    x = np.minimum(((np.arange(width) + 0.5) * (geometry.placed_width / width) / stride).astype(int), columns - 1)
    out = np.empty((height, width), np.uint8)
    assert class_map_to_source(class_map, stride, geometry, out) is out
    assert (out == class_map[y[:, None], x]).all()
    assert (class_map_to_source(class_map, stride, geometry) == out).all()


@pytest.mark.skipif(not SHARED_CHECK.is_file(), reason=f"the shared check is not at {SHARED_CHECK}")
@given(height=sides, width=sides, seed=st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_letterbox_and_its_inverse_equal_the_shared_check(height, width, seed):
    spec = importlib.util.spec_from_file_location("camvid_miou", SHARED_CHECK)
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    class_map = rng.integers(0, 11, (16, 24), dtype=np.uint8)
    scale = min(64 / height, 96 / width)
    if round(height * scale) == 0 or round(width * scale) == 0:
        return  # the shared check does not handle images this thin
    expected_input, placed = check.letterbox(image, 64, 96, 114)
    out = np.empty((64, 96, 3), np.uint8)
    geometry = letterbox(image, out, 114)
    assert (geometry.placed_height, geometry.placed_width) == placed
    assert (out == expected_input).all()
    expected_map = check.back_to_source(class_map, 4, placed, (height, width))
    assert (class_map_to_source(class_map, 4, geometry) == expected_map).all()


@given(height=sides, width=sides, corners=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_scaled_to_the_input_and_back_are_unchanged(height, width, corners):
    geometry = letterbox_geometry(height, width, 64, 96)
    box = np.array([corners], np.float32) * np.array([width, height, width, height], np.float32)
    shrunk_x, shrunk_y = geometry.placed_width / width, geometry.placed_height / height
    back = boxes_to_source(box * np.array([shrunk_x, shrunk_y, shrunk_x, shrunk_y], np.float32), geometry)
    assert np.allclose(back, box, atol=1e-3 * max(height, width))


def test_boxes_are_clipped_to_the_image():
    geometry = letterbox_geometry(32, 96, 64, 96)
    boxes = boxes_to_source(np.array([[-5, 10, 200, 60]], np.float32), geometry)
    assert boxes.tolist() == [[0, 10, 96, 32]]


def test_a_stretched_image_fills_the_input_and_comes_back_by_each_axis():
    image = np.random.default_rng(4).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    out = np.empty((64, 96, 3), np.uint8)
    geometry = stretch(image, out)
    assert np.abs(out - image.reshape(64, 2, 96, 3).mean(axis=1)).max() <= 0.5
    boxes = boxes_to_source(np.array([[10, 10, 20, 20]], np.float32), geometry)
    assert np.allclose(boxes, [[10, 20, 20, 40]])
    cells = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24)
    assert (class_map_to_source(cells, 4, geometry) == cells.repeat(8, axis=0).repeat(4, axis=1)).all()


def test_an_enlarged_stretched_image_is_interpolated():
    out = np.empty((32, 64, 3), np.uint8)
    stretch(np.repeat(np.array([[[0], [200]]], np.uint8), 3, axis=2), out)
    assert set(np.unique(out[0, :, 0])) > {0, 200}
