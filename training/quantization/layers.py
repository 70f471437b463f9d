"""Finds the nodes of a graph that become integers or fp16: layers with weights, and what lies between two of them.

What follows the last layers decodes boxes and classes. It stays in fp32: it costs little, and its values need more than
8 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx

from training.quantization.forms import Form


def layers_of(graph: onnx.GraphProto, form: Form) -> list[onnx.NodeProto]:
    """Return the nodes with constant fp32 weights that a form turns into integers, in the order of the graph."""
    constants = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    return [
        node
        for node in graph.node
        if node.op_type in form.weighted and len(node.input) > 1 and node.input[1] in constants
    ]


def integer_nodes(graph: onnx.GraphProto, form: Form, excluded: Collection[str] = ()) -> list[onnx.NodeProto]:
    """Return the nodes that become integers, in the order of the graph.

    Args:
        graph: The network. Its nodes are in topological order, as ONNX demands, and have names.
        form: What becomes integers.
        excluded: Names of layers that stay in fp32.
    """
    layers = {node.name for node in layers_of(graph, form)} - set(excluded)
    after = _reached(graph.node, layers, form)
    before = _reached(_reversed(graph.node), layers, form)
    return [node for node in graph.node if node.name in layers | (after & before)]


def float_inputs_and_outputs(graph: onnx.GraphProto, nodes: Collection[onnx.NodeProto]) -> list[str]:
    """Return the names of the activations that nodes read and write, each once."""
    constants = {tensor.name for tensor in graph.initializer}
    names = [name for node in nodes for name in (*node.input, *node.output) if name and name not in constants]
    return list(dict.fromkeys(names))


def _reached(nodes: Sequence[onnx.NodeProto], layers: Collection[str], form: Form) -> set[str]:
    """Return the names of the nodes that can be reached from a layer over operators of `between` alone."""
    reached: set[str] = set()
    integers: set[str] = set()
    for node in nodes:
        if node.op_type in form.between and not integers.isdisjoint(node.input):
            reached.add(node.name)
        if node.name in layers or node.name in reached:
            integers.update(node.output)
    return reached


def _reversed(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes from the last to the first, with inputs and outputs exchanged."""
    return [
        onnx.NodeProto(name=node.name, op_type=node.op_type, input=node.output, output=node.input)
        for node in reversed(nodes)
    ]
