"""Parameters and multiply-accumulates of what is deployed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from training.networks.student import Student


@dataclass(frozen=True)
class ModelSize:
    """Of one frame at the network's input size, convolutions only: all the rest together is under a hundredth."""

    parameters: int
    multiply_accumulates: int


def size_of_student(student: Student, height: int, width: int) -> ModelSize:
    """Count a fused student, whose convolutions are all nn.Conv2d."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        del inputs
        assert isinstance(module, nn.Conv2d)
        total += output[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in student.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.inference_mode():
            student(torch.zeros(1, 3, height, width, device=next(student.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return ModelSize(sum(parameter.numel() for parameter in student.parameters()), total)


def size_of_onnx(path: Path) -> ModelSize:
    """Count the Conv nodes of an exported file and their weights and biases."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    weights = {item.name: tuple(item.dims) for item in graph.initializer}
    shapes = {item.name: [side.dim_value for side in item.type.tensor_type.shape.dim] for item in graph.value_info}
    parameters = total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            parameters += sum(math.prod(weights[name]) for name in node.input[1:])
            rows, columns = shapes[node.output[0]][2:]
            total += math.prod(weights[node.input[1]]) * rows * columns
    return ModelSize(parameters, total)
