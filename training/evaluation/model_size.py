"""Count parameters and multiply-accumulates of the deployed network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from training.networks.student import Student

# Operators whose constant inputs are weights. The constants of Gather, Resize and similar operators are geometry.
WEIGHTED_OPERATORS = {"Conv", "Gemm", "MatMul", "Add", "Mul", "LayerNormalization", "BatchNormalization", "Concat"}
REAL_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
# Between a stored weight and its operator in a quantised file, or in one of half precision.
CONVERTING_OPERATORS = {"DequantizeLinear", "QuantizeLinear", "Cast", "Identity"}


@dataclass(frozen=True)
class ModelSize:
    """Size of the network, for one frame of the network's input size.

    The multiply-accumulates are those of convolutions and linear layers. In our own family all other operations
    together are less than a hundredth of that. The products of activations in attention are not counted.

    Attributes:
        parameters: Number of weights.
        multiply_accumulates: For one frame; None if the work of a layer depends on more than the size of the input, as
            it may in files of others.
    """

    parameters: int
    multiply_accumulates: int | None


def size_of_student(student: Student, height: int, width: int) -> ModelSize:
    """Return the size of a student with fused layers."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        del inputs
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        # A kernel is applied once for each output value.
        total += output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in student.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    try:
        with torch.inference_mode():
            student(torch.zeros(1, 3, height, width, device=next(student.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return ModelSize(sum(parameter.numel() for parameter in student.parameters()), total)


def size_of_onnx(path: Path) -> ModelSize:
    """Return the size of an exported file. It may be smaller than the network: the exporter removes unused parts.

    A quantised weight counts as one weight. Its scale and zero point do not count.
    """
    graph = _for_one_frame(onnx.load(str(path))).graph
    weights = _weights(graph)
    shapes = {
        item.name: [side.dim_value for side in item.type.tensor_type.shape.dim]
        for item in (*graph.value_info, *graph.output)
    }
    counted: set[str] = set()
    total: int | None = 0
    for node in graph.node:
        if node.op_type in WEIGHTED_OPERATORS:
            counted.update(weights[name].name for name in node.input if name in weights)
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in weights:
            kernel = weights[node.input[1]].dims
            outputs = kernel[-1] if node.op_type == "MatMul" or _is_plain(node) else kernel[0]
            size = math.prod(shapes.get(node.output[0], [0]))
            work = size * math.prod(kernel) // outputs
            total = None if total is None or not work else total + work
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in weights.values()}
    return ModelSize(sum(sizes[name] for name in counted), total)


def _weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the tensor behind each name that holds a weight: one of real numbers, or what a node makes it from."""
    tensors = {item.name: item for item in graph.initializer if item.dims}
    found = {name: item for name, item in tensors.items() if item.data_type in REAL_TYPES}
    for node in graph.node:  # in the order in which they run
        if node.op_type in CONVERTING_OPERATORS and node.input[0] in tensors:
            tensors[node.output[0]] = found[node.output[0]] = tensors[node.input[0]]
    return found


def _is_plain(node: onnx.NodeProto) -> bool:
    """Return whether the weights of a Gemm are [in, out]."""
    return node.op_type == "Gemm" and not any(item.name == "transB" and item.i for item in node.attribute)


def _for_one_frame(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its shapes for a batch of one, as far as they can be inferred."""
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        for side in value.type.tensor_type.shape.dim:
            if batch and side.dim_param == batch:
                side.dim_value = 1
            elif side.dim_param:  # an expression of the batch size, which is inferred again
                side.Clear()
    return onnx.shape_inference.infer_shapes(model, data_prop=True)
