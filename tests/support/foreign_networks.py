"""Tiny foreign ONNX files whose outputs are known: each output is a given array, whatever the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ros_kd_perception.model.onnx_runtime import onnxruntime
from training.foreign.description import ForeignDescription
from training.foreign.foreign_file import ForeignFile
from training.foreign.graph import ForeignGraph, build_graph

HEIGHT, WIDTH = 64, 96


def save_network(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    layout: str = "nchw",
    *,
    height: int | str = HEIGHT,
    width: int | str = WIDTH,
    batch: int | str = 1,
    dtype: int = TensorProto.FLOAT,
    opset: int = 18,
    extra_nodes: Sequence[onnx.NodeProto] = (),
) -> Path:
    """Save a network with one input `pixels` and the given outputs, which it adds to 0 times its input's mean."""
    shape = [batch, 3, height, width] if layout == "nchw" else [batch, height, width, 3]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float_pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float_pixels"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    weights = [numpy_helper.from_array(np.zeros((), np.float32), "zero")]
    made = {name for node in extra_nodes for name in node.output}
    for name, values in outputs.items():
        if name in made:
            continue
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        nodes.append(helper.make_node("Cast", ["nothing"], [f"{name}_nothing"], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_values", f"{name}_nothing"], [name]))
        weights.append(numpy_helper.from_array(values, f"{name}_values"))
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)
        for name, values in outputs.items()
    ]
    graph = helper.make_graph(
        [*nodes, *extra_nodes], "foreign", [helper.make_tensor_value_info("pixels", dtype, shape)], declared, weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    onnx.save(model, str(path))
    return path


def save_pass_through(path: Path, layout: str, dtype: int = TensorProto.FLOAT) -> Path:
    """Save a network whose output `scores` is its input."""
    shape = [1, 3, HEIGHT, WIDTH] if layout == "nchw" else [1, HEIGHT, WIDTH, 3]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], ["scores"])],
        "foreign",
        [helper.make_tensor_value_info("pixels", dtype, shape)],
        [helper.make_tensor_value_info("scores", dtype, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def save_convolution(path: Path, batch: int | str, channels: int = 4, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Save a network whose logits, at stride 2, are a convolution of its input, so that frames differ."""
    values = np.random.default_rng(2).normal(0, 0.04, (channels, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, channels, height // 2, width // 2])],
        [numpy_helper.from_array(values, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def save_two_objects(path: Path) -> Path:
    """Save a network with the output of YOLOv8 that sees two objects of four classes, one of them twice.

    A box of class 1 with the score 0.9 at 20, 15, 40, 25, its duplicate with 0.8 one pixel to the right, and a box of
    class 3 with the score 0.7 at 60, 30, 80, 50.
    """
    rows = np.zeros((1, 8, 126), np.float32)
    rows[0, :4, :3] = np.transpose([(30, 20, 20, 10), (31, 20, 20, 10), (70, 40, 20, 20)])
    rows[0, 4:, :3] = np.transpose([(0, 0.9, 0, 0), (0, 0.8, 0, 0), (0, 0, 0, 0.7)])
    return save_network(path, {"output0": rows})


def built(path: Path, description: Mapping[str, Any], outputs: str = "contract") -> ForeignGraph:
    """Build a graph for one frame around a file."""
    return build_graph(ForeignFile.read(path), ForeignDescription.checked(description), 1, outputs)


def run_graph(graph: ForeignGraph, image: NDArray[np.uint8] | None = None) -> dict[str, NDArray[Any]]:
    """Run a graph on one image, black without one, and return its outputs by name."""
    pixels = np.zeros((graph.height, graph.width, 3), np.uint8) if image is None else image
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": pixels[None]}), strict=True))


def run_built(path: Path, description: Mapping[str, Any], outputs: str = "contract") -> dict[str, NDArray[Any]]:
    """Build a graph around a file, run it on a black image and return its outputs by name."""
    return run_graph(built(path, description, outputs))
