"""Ranges that a network learned in quantisation-aware training, by the names of the tensors in its exported file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor

from ros_kd_perception.model.onnx_file import read_model_file
from training.checkpoint import load_student
from training.errors import CheckpointError
from training.export.export import EXPORTED_NETWORK
from training.networks.deployed import PIXEL_VALUES
from training.networks.fake_quantization import ActivationQuantiser
from training.networks.quantised_layers import QuantisedConvolution, QuantisedOutput
from training.networks.student import Student
from training.quantization.ranges import TensorRange

# The first weights of a file are divided by 255, here and by the exporter, with a rounding each.
WEIGHT_TOLERANCE = 1e-5
MOVING = frozenset({"Concat", "MaxPool", "Resize"})  # these move values without changing them


def learned_ranges(checkpoint: Path, exported: Path) -> dict[str, TensorRange]:
    """Return the range of each activation that a network rounds.

    Args:
        checkpoint: Checkpoint or weights of a run with the section `quantization_aware`.
        exported: The file that `export` wrote from the averaged weights of this checkpoint.

    Returns:
        Ranges by the names of tensors in `exported`.

    Raises:
        CheckpointError: The checkpoint is of a plain network, or the file was exported from another one.
        ModelFileError: The file cannot be read.
    """
    student, info = load_student(checkpoint)
    if info.quantization_aware is None:
        raise CheckpointError(
            f"{checkpoint}: expected a network that was trained for 8 bits, this one has no ranges; train it by a "
            "recipe with the section quantization_aware"
        )
    deployed = student.fused()
    deployed.backbone.prepare_export(PIXEL_VALUES)
    return all_ranges(rounded_tensors(deployed, exported), exported)


def rounded_tensors(deployed: Student, exported: Path) -> dict[str, ActivationQuantiser]:
    """Return what rounds each activation of an exported file, by the names of its tensors.

    Args:
        deployed: A student of `quantization_aware`, fused and prepared for export.
        exported: The file that was exported from it.

    Raises:
        CheckpointError: The file was exported from another network.
        ModelFileError: The file cannot be read.
    """
    try:
        return dict(_rounded(deployed, _graph_of(exported)))
    except KeyError as error:
        raise CheckpointError(
            f"{exported}: expected the file that was exported from this network, its weights or layers differ at "
            f"{error.args[0]}; export the checkpoint again"
        ) from None


def all_ranges(rounded: Mapping[str, ActivationQuantiser], exported: Path) -> dict[str, TensorRange]:
    """Return the ranges of rounded tensors, and of what pools, upsampling and concatenation make of them.

    Args:
        rounded: Result of `rounded_tensors`.
        exported: The same file.
    """
    ranges = {name: range_of(quantiser) for name, quantiser in rounded.items()}
    for node in _graph_of(exported).node:
        if node.op_type in MOVING and node.name.startswith(f"{EXPORTED_NETWORK}."):
            data = node.input if node.op_type == "Concat" else node.input[:1]
            found = {ranges.get(name) for name in data}
            if len(found) == 1 and (shared := found.pop()) is not None:
                ranges.setdefault(node.output[0], shared)
    return ranges


def range_of(quantiser: ActivationQuantiser) -> TensorRange:
    """Return the values of the smallest and of the largest integer; symmetric ones leave out the very smallest."""
    integers, scale = quantiser.integers, float(quantiser.scale().detach())
    zero_point = int(quantiser.zero_point)
    lowest = -integers.highest if integers.symmetric else integers.lowest
    return TensorRange(scale * (lowest - zero_point), scale * (integers.highest - zero_point))


def _rounded(student: Student, graph: onnx.GraphProto) -> Iterator[tuple[str, ActivationQuantiser]]:
    """Yield the tensors of a graph; a KeyError names what the graph lacks or has otherwise."""
    nodes = {node.name: node for node in graph.node}
    of_layer = {name.rpartition("/")[0]: node for name, node in nodes.items()}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for name, module in student.named_modules():
        layer = f"{EXPORTED_NETWORK}.{name}"
        if isinstance(module, QuantisedConvolution):
            _check_equal(module.weight, weights[f"{layer}.weight"])
            node = nodes[f"{layer}/Conv"]
            if module.input is not None:
                yield node.input[0], module.input
            if module.output is not None:
                yield node.output[0], module.output
        elif isinstance(module, QuantisedOutput):
            yield of_layer[layer].output[0], module.output


def _graph_of(path: Path) -> onnx.GraphProto:
    graph: onnx.GraphProto = onnx.ModelProto.FromString(read_model_file(path).content).graph
    return graph


def _check_equal(ours: Tensor, stored: onnx.TensorProto) -> None:
    values, theirs = ours.detach().cpu().numpy(), numpy_helper.to_array(stored)
    if values.shape != theirs.shape or not np.allclose(values, theirs, rtol=WEIGHT_TOLERANCE, atol=0):
        raise KeyError(stored.name)
