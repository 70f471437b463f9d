"""Doubling integers by repetition gives the same values as the Resize that it replaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ros_kd_perception.model.onnx_runtime import onnxruntime
from training.quantization.upsampling import repeat_integers

NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def doubling(channels: int, height: int, width: int, by_sizes: bool = False, **changes: Any) -> onnx.ModelProto:
    """Return a graph of integers, a Resize in between, and integers; `changes` override scale or attributes."""
    constants = {
        "scale": np.float32(0.5),
        "after_scale": np.float32(changes.pop("after_scale", 0.5)),
        "zero": np.uint8(7),
        "factors": np.array(changes.pop("factors", [1, 1, 2, 2]), np.float32),
        "sizes": np.array([2, channels, 2 * height, 2 * width], np.int64),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["features", "scale", "zero"], ["floats"], name="before"),
        helper.make_node(
            "Resize", ["floats", "", *(["", "sizes"] if by_sizes else ["factors"])], ["large"], name="double",
            **(NEAREST | changes),
        ),
        helper.make_node("QuantizeLinear", ["large", "after_scale", "zero"], ["integers"], name="after"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "doubling",
        [helper.make_tensor_value_info("features", TensorProto.UINT8, ["N", channels, height, width])],
        [helper.make_tensor_value_info("integers", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def integers(model: onnx.ModelProto, features: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"features": features})[0])


@settings(max_examples=30, deadline=None)
@given(
    channels=st.integers(1, 9),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    by_sizes=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_values_are_the_same(channels: int, height: int, width: int, by_sizes: bool, seed: int) -> None:
    features = np.random.default_rng(seed).integers(0, 256, (2, channels, height, width), np.uint8)
    model = doubling(channels, height, width, by_sizes)
    before = integers(model, features)
    repeat_integers(model)
    assert "Resize" not in [node.op_type for node in model.graph.node]
    np.testing.assert_array_equal(integers(model, features), before)


@pytest.mark.parametrize(
    "changes",
    [
        {"after_scale": 0.25},
        {"factors": [1, 1, 2, 4]},
        {"mode": "linear"},
        {"nearest_mode": "ceil"},
        {"coordinate_transformation_mode": "half_pixel"},
    ],
    ids=str,
)
def test_another_resize_stays_as_it_is(changes: dict[str, Any]) -> None:
    model = doubling(3, 4, 5, **changes)
    before = model.SerializeToString()
    repeat_integers(model)
    assert model.SerializeToString() == before
