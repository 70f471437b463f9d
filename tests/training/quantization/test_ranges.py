"""Test the histograms of activations against ranges that are known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_kd_perception.model.onnx_file import ModelFileError
from training.quantization.ranges import BINS, Histogram, TensorRange, measured_ranges
from training.quantization.settings import CalibrationSettings


def histogram_of(values: np.ndarray) -> Histogram:
    found = Histogram(float(values.min()), float(values.max()))
    for part in np.array_split(values.astype(np.float32), 3):
        found.add(part)
    return found


def test_a_percentile_cuts_off_as_much_below_as_above() -> None:
    found = histogram_of(np.linspace(-1, 3, 100_001)).percentile(90)

    bin_width = 4 / BINS
    assert found.lowest == pytest.approx(-0.8, abs=2 * bin_width)
    assert found.highest == pytest.approx(2.8, abs=2 * bin_width)


def test_entropy_gives_up_single_large_values() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.abs(rng.normal(0, 1, 200_000)), np.zeros(200_000), [20.0]])

    found = histogram_of(values).least_entropy_lost()
    assert found.lowest == 0
    assert 2.5 < found.highest < 8


@pytest.mark.parametrize("lowest", [-1.0, -0.375, -0.37])
def test_entropy_does_not_see_the_peak_of_zeros_between_negative_and_positive_values(lowest: float) -> None:
    """As behind a hard swish, or where rectified features lie beside others."""
    values = np.random.default_rng(0).uniform(lowest, 10, 200_000)
    without, beside = (
        histogram_of(each).least_entropy_lost() for each in (values, np.concatenate([values, np.zeros(2_000_000)]))
    )

    assert beside.highest == pytest.approx(without.highest, rel=0.05)
    assert beside.lowest == pytest.approx(without.lowest, abs=0.05)


def test_entropy_keeps_values_that_are_spread_evenly() -> None:
    values = np.random.default_rng(0).uniform(0, 10, 200_000)

    assert histogram_of(values).least_entropy_lost().highest == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("largest", [4.0888487890533837e-41, 3e38])
def test_values_of_any_size_are_counted(largest: float) -> None:
    values = np.array([-largest, 0, largest], np.float32)

    found = histogram_of(values).percentile(99.0)

    assert (found.lowest, found.highest) == pytest.approx((-largest, largest), rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40), st.floats(90, 99.999))
def test_a_range_lies_within_the_values(values: list[float], percent: float) -> None:
    array = np.array(values, np.float32)
    slack = 1e-3 * max(1.0, float(np.abs(array).max()))

    for found in (histogram_of(array).percentile(percent), histogram_of(array).least_entropy_lost()):
        assert array.min() - slack <= found.lowest <= found.highest <= array.max() + slack


@pytest.mark.parametrize(("lowest", "highest"), [(1, 0), (float("nan"), 1), (0, float("inf"))])
def test_a_range_that_is_none_is_refused(lowest: float, highest: float) -> None:
    with pytest.raises(ValueError, match="expected a finite range"):
        TensorRange(lowest, highest)


def root_of_brightness() -> onnx.ModelProto:
    """Return a network whose activation is NaN on dark pixels only."""
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["light"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Sub", ["light", "dark"], ["above"]),
        onnx.helper.make_node("Sqrt", ["above"], ["root"]),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, kind, [1, 2, 2, 3])
        for name, kind in (("images", onnx.TensorProto.UINT8), ("root", onnx.TensorProto.FLOAT))
    ]
    dark = onnx.numpy_helper.from_array(np.float32(100), "dark")
    graph = onnx.helper.make_graph(nodes, "root", values[:1], values[1:], [dark])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_on_a_single_frame_is_refused(method: str, place: int) -> None:
    images = [np.full((2, 2, 3), 110 + 10 * number, np.uint8) for number in range(3)]
    calibration = CalibrationSettings.checked({"frames": {"kind": "unlabeled", "folder": "none"}, "method": method})
    assert measured_ranges(root_of_brightness(), ["root"], images, calibration)["root"].highest > 5

    images[place] = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ModelFileError, match="expected finite activations on the calibration frames, root"):
        measured_ranges(root_of_brightness(), ["root"], images, calibration)
