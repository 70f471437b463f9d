"""Count the weights and the work of small files: as exported, quantised, in half precision, with fewer channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.evaluation.model_size import ModelSize, size_of_onnx

HEIGHT, WIDTH, CLASSES = 16, 24, 5


def size_for(channels: int) -> ModelSize:
    """Return the size of `plain_network` by hand: two convolutions with bias and a linear layer, padded."""
    weights = channels * 3 * 9 + channels + channels * channels * 9 + channels + channels * CLASSES
    work = HEIGHT * WIDTH * (channels * 3 * 9 + channels * channels * 9) + channels * CLASSES
    return ModelSize(weights, work)


def plain_network(channels: int, kind: type[np.generic] = np.float32) -> onnx.ModelProto:
    """Return two convolutions, the mean over the picture, and a linear layer; a shape is computed beside them."""
    rng = np.random.default_rng(0)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    weights = {
        "first": rng.normal(size=(channels, 3, 3, 3)).astype(kind),
        "first_bias": rng.normal(size=channels).astype(kind),
        "second": rng.normal(size=(channels, channels, 3, 3)).astype(kind),
        "second_bias": rng.normal(size=channels).astype(kind),
        "linear": rng.normal(size=(channels, CLASSES)).astype(kind),
        "batch_place": np.array([0]),
        "one": np.array([1]),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["input"], to=element),
        helper.make_node("Conv", ["input", "first", "first_bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second", "second_bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "linear"], ["scores"]),
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Gather", ["shape", "batch_place"], ["batch"]),
        helper.make_node("Concat", ["batch", "one"], ["rows"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info("scores", element, ["N", CLASSES]),
            helper.make_tensor_value_info("rows", TensorProto.INT64, [2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network with int8 kernels and int32 biases behind DequantizeLinear, and its activations quantised."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul"):
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            scale, zero, form = f"{node.output[0]}_{place}_scale", f"{node.output[0]}_{place}_zero", np.uint8
            if name in tensors:
                form = np.int8 if place == 1 else np.int32
                value = np.ones(tensors[name].dims, form)
                tensors[name].CopyFrom(numpy_helper.from_array(value, name))
            else:
                nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_quantised"]))
            source = name if name in tensors else f"{name}_quantised"
            nodes.append(helper.make_node("DequantizeLinear", [source, scale, zero], [f"{name}_real"]))
            graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), scale))
            graph.initializer.append(numpy_helper.from_array(np.array(0, form), zero))
            node.input[place] = f"{name}_real"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("channels", [8, 3])
def test_a_file_has_the_weights_and_the_work_of_its_layers(channels: int, tmp_path: Path) -> None:
    onnx.save(plain_network(channels), tmp_path / "plain.onnx")

    assert size_of_onnx(tmp_path / "plain.onnx") == size_for(channels)


def test_a_quantised_file_has_the_size_of_its_parent(tmp_path: Path) -> None:
    onnx.save(quantised(plain_network(8)), tmp_path / "int8.onnx")

    assert size_of_onnx(tmp_path / "int8.onnx") == size_for(8)


def test_a_file_in_half_precision_has_the_size_of_its_parent(tmp_path: Path) -> None:
    onnx.save(plain_network(8, np.float16), tmp_path / "fp16.onnx")

    assert size_of_onnx(tmp_path / "fp16.onnx") == size_for(8)
