"""The first layer of an 8-bit file reads the pixels themselves, and gives the same integers as before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ros_kd_perception.model.onnx_runtime import onnxruntime
from training.quantization.image_input import read_pixels_directly


def quantised_stem(
    rng: np.random.Generator,
    height: int,
    width: int,
    kernel: int = 3,
    stride: int = 2,
    scale: float = 1.0,
    relu: bool = False,
) -> onnx.ModelProto:
    """Return a graph as the quantiser writes it: pixels become floats and integers again before the convolution."""
    outputs = int(rng.integers(1, 9))
    initializers = {
        "one": np.float32(scale),
        "zero": np.uint8(0),
        "kernel": rng.integers(-127, 128, (outputs, 3, kernel, kernel)).astype(np.int8),
        "kernel_scale": rng.uniform(1e-4, 1e-3, outputs).astype(np.float32),
        "kernel_zero": np.zeros(outputs, np.int8),
        "bias_integers": rng.integers(-3000, 3000, outputs).astype(np.int32),
        "bias_scale": rng.uniform(1e-4, 1e-3, outputs).astype(np.float32),
        "bias_zero": np.zeros(outputs, np.int32),
        "feature_scale": np.float32(0.3),
        "feature_zero": np.uint8(100),
    }
    nodes = [
        helper.make_node("Transpose", ["images"], ["pixels"], perm=[0, 3, 1, 2], name="transpose"),
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("QuantizeLinear", ["floats", "one", "zero"], ["bytes"], name="quantise"),
        helper.make_node("DequantizeLinear", ["bytes", "one", "zero"], ["inputs"], name="dequantise"),
        helper.make_node(
            "DequantizeLinear", ["kernel", "kernel_scale", "kernel_zero"], ["weights"], axis=0, name="weights"
        ),
        helper.make_node(
            "DequantizeLinear", ["bias_integers", "bias_scale", "bias_zero"], ["bias"], axis=0, name="bias"
        ),
        helper.make_node(
            "Conv", ["inputs", "weights", "bias"], ["sums"], name="conv", kernel_shape=[kernel] * 2,
            strides=[stride] * 2, pads=[kernel // 2] * 4,
        ),
        *([helper.make_node("Relu", ["sums"], ["activated"], name="relu")] if relu else []),
        helper.make_node(
            "QuantizeLinear", ["activated" if relu else "sums", "feature_scale", "feature_zero"], ["integers"]
        ),
        helper.make_node("DequantizeLinear", ["integers", "feature_scale", "feature_zero"], ["features"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", height, width, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def features(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(3, 20),
    width=st.integers(3, 20),
    kernel=st.sampled_from([1, 3, 3, 5]),
    stride=st.sampled_from([1, 2, 2]),
    relu=st.booleans(),
)
def test_the_features_are_the_same_whatever_the_first_layer(
    seed: int, height: int, width: int, kernel: int, stride: int, relu: bool
) -> None:
    rng = np.random.default_rng(seed)
    model = quantised_stem(rng, height, width, kernel, stride, relu=relu)
    images = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    before = features(model, images)
    read_pixels_directly(model)
    np.testing.assert_array_equal(features(model, images), before)
    assert "Cast" not in kinds(model)


@pytest.mark.parametrize(("height", "width", "cut"), [(32, 64, True), (31, 64, False), (32, 62, False)])
def test_an_image_of_whole_blocks_is_cut_into_blocks(height: int, width: int, cut: bool) -> None:
    model = quantised_stem(np.random.default_rng(1), height, width)
    read_pixels_directly(model)
    assert ("Reshape" in kinds(model)) == cut


def test_pixels_that_are_scaled_first_stay_as_they_are() -> None:
    model = quantised_stem(np.random.default_rng(1), 32, 64, scale=2.0)
    before = model.SerializeToString()
    read_pixels_directly(model)
    assert model.SerializeToString() == before


def test_a_network_that_reads_the_image_twice_stays_as_it_is() -> None:
    model = quantised_stem(np.random.default_rng(1), 32, 64)
    model.graph.node.append(helper.make_node("Cast", ["pixels"], ["again"], to=TensorProto.FLOAT, name="again"))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, None))
    before = model.SerializeToString()
    read_pixels_directly(model)
    assert model.SerializeToString() == before
