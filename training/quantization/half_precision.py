"""Makes a half-precision file: fp16 in the layers, fp32 in what decodes boxes and classes.

The converters of ONNX Runtime 1.31 and onnxconverter-common 1.16 both wrote files of the shipped student that cannot be
loaded (two nodes of one name, a Cast of the wrong type). Here the layers are known, so casts at their edges do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ros_kd_perception.model.onnx_file import ModelFileError
from training.quantization.forms import HALF_FORM
from training.quantization.layers import integer_nodes
from training.quantization.onnx_quantizer import prepare
from training.quantization.parent import read_parent

LARGEST = float(np.finfo(np.float16).max)
# The sizes of the output of a Resize are always fp32.
FLOAT_INPUTS = {"Resize": (1, 2)}


def half_precision_graph(parent: Path) -> onnx.ModelProto:
    """Return the graph of a file with fp16 in its layers and in what lies between them.

    Inputs and outputs keep their types. What follows the last layers stays in fp32: fp16 counts pixels in steps of 0.5
    above 512 and in steps of 4 above 4096, so a box would move.

    Args:
        parent: An exported or adopted file in fp32.

    Raises:
        ModelFileError: The file cannot be read or converted; the message names it.
    """
    graph, *_ = read_parent(parent)
    try:
        prepared = prepare(graph)
        nodes = {node.name for node in integer_nodes(prepared.graph, HALF_FORM)}
        if not nodes:
            raise ModelFileError(
                f"expected layers to convert ({', '.join(sorted(HALF_FORM.weighted))}), the file has none; nothing "
                "would be gained"
            )
        _convert(prepared.graph, nodes)
        onnx.checker.check_model(prepared, full_check=True)
    except (ModelFileError, onnx.checker.ValidationError) as error:
        raise ModelFileError(f"{parent}: {error}") from None
    return prepared


def _convert(graph: onnx.GraphProto, chosen: Collection[str]) -> None:
    """Make chosen nodes compute in fp16, with a Cast at each tensor that crosses their edge."""
    floats = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    half_constants: dict[str, TensorProto] = {}
    halves = {name for node in graph.node if node.name in chosen for name in node.output}
    nodes: list[onnx.NodeProto] = []
    casts: set[str] = set()
    for node in graph.node:
        inside = node.name in chosen
        for slot, name in _float_inputs(node):
            if inside and name in floats:
                half_constants.setdefault(name, _half(floats[name]))
                node.input[slot] = half_constants[name].name
            elif name and name not in floats and inside != (name in halves) and (inside or name in halves):
                node.input[slot] = _cast(nodes, casts, name, to_half=inside)
        nodes.append(node)
    for value in graph.output:
        if value.name in halves:
            raise ModelFileError(
                f"expected outputs that are decoded from the last layers, {value.name} is that of a layer itself; "
                "leave the file in fp32"
            )
    _replace(graph, nodes, half_constants.values(), halves)


def _float_inputs(node: onnx.NodeProto) -> Iterator[tuple[int, str]]:
    kept = FLOAT_INPUTS.get(node.op_type, ())
    yield from ((slot, name) for slot, name in enumerate(node.input) if slot not in kept)


def _cast(nodes: list[onnx.NodeProto], casts: set[str], name: str, *, to_half: bool) -> str:
    """Return the name of a tensor in the other type. Add the Cast unless it is there already."""
    kind, words = (TensorProto.FLOAT16, "half") if to_half else (TensorProto.FLOAT, "float")
    cast = f"{name}_as_{words}"
    if cast not in casts:
        casts.add(cast)
        nodes.append(helper.make_node("Cast", [name], [cast], f"{cast}_cast", to=kind))
    return cast


def _half(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0) > LARGEST:
        raise ModelFileError(
            f"expected weights within fp16 (up to {LARGEST:g}), {tensor.name} has {np.abs(values).max():g}; leave the "
            "file in fp32"
        )
    return numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_half")


def _replace(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], constants: Collection[TensorProto], halves: Collection[str]
) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.extend(constants)
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    for value in graph.value_info:
        if value.name in halves:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
