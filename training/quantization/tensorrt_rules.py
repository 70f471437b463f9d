"""Checks a graph against the rules of explicit quantisation in TensorRT. docs/compression.md lists them with sources.

A graph that keeps the rules can be read by TensorRT and fused as its documentation describes. No TensorRT ran here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx

from training.quantization.forms import INTEGER_FORMS
from training.quantization.tensorrt_placement import MOVING, fused_layer
from training.quantization.wiring import DEQUANTISE, QUANTISE, Wiring, input_of

FORM = INTEGER_FORMS["tensorrt"]
# Scales of channels need opset 13. The parser of TensorRT 10.15 reads up to 24.
OPSETS = range(13, 25)
ACTIVATIONS = frozenset({"Clip", "Relu"})
OUTPUT_CHANNEL_AXIS = 0
BIAS, WEIGHT = 2, 1
INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearAdd", "QLinearConv", "QLinearMatMul"}
)


def broken_rules(model: onnx.ModelProto) -> list[str]:
    """Return a sentence for each rule that a node breaks, empty for a graph that keeps all of them."""
    wiring = Wiring.of(model.graph)
    return [*_opset(model), *(sentence for rule in RULES for sentence in rule(wiring))]


def _opset(model: onnx.ModelProto) -> Iterator[str]:
    (opset,) = (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset not in OPSETS:
        yield f"the opset is {opset}: TensorRT reads scales of channels in opset {OPSETS[0]} to {OPSETS[-1]}"


def _types(wiring: Wiring) -> Iterator[str]:
    for node in _quantisers(wiring):
        zeros = wiring.values(input_of(node, 2))
        if zeros is None or zeros.dtype != np.int8:
            found = "no stated type" if zeros is None else f"the type {zeros.dtype}"
            yield f"{node.name} has {found}: TensorRT reads int8 alone"
        elif np.any(zeros):
            yield f"{node.name} has the zero point {int(np.ravel(zeros)[0])}: TensorRT needs 0"


def _scales(wiring: Wiring) -> Iterator[str]:
    for node in _quantisers(wiring):
        scales = wiring.values(input_of(node, 1))
        if scales is None or not np.all(np.isfinite(scales) & (scales > 0)):
            yield f"{node.name} has no constant scale above 0: TensorRT needs one"
        elif scales.size > 1 and not _is_of_weights(wiring, node):
            yield f"{node.name} has {scales.size} scales: TensorRT has one for an activation"
        elif scales.size > 1 and _axis(node) != OUTPUT_CHANNEL_AXIS:
            yield f"{node.name} has scales along axis {_axis(node)}: TensorRT has one for each output channel, axis 0"


def _operators(wiring: Wiring) -> Iterator[str]:
    for node in wiring.nodes:
        if node.op_type in INTEGER_OPERATORS:
            yield f"{node.name} is a {node.op_type}: TensorRT has none, {QUANTISE} and {DEQUANTISE} take its place"
        if node.op_type == QUANTISE and any(reader.op_type != DEQUANTISE for reader in wiring.readers_of(node)):
            yield f"{node.name} is not read by {DEQUANTISE} alone: TensorRT takes integers from nothing else"


def _layers(wiring: Wiring) -> Iterator[str]:
    for node in _layers_of(wiring):
        if not wiring.is_quantised(node.input[0]):
            yield f"{node.name} has integer weights and a float input: TensorRT needs both to multiply integers"


def _biases(wiring: Wiring) -> Iterator[str]:
    for node in _layers_of(wiring):
        if wiring.is_quantised(input_of(node, BIAS)):
            yield f"{node.name} has a quantised bias: TensorRT reads no int32 there, it must be float"


def _activations(wiring: Wiring) -> Iterator[str]:
    for node in _layers_of(wiring):
        for reader in wiring.readers_of(node):
            if reader.op_type == QUANTISE and ACTIVATIONS & {last.op_type for last in wiring.behind_pairs(node)}:
                yield f"{reader.name} stands between {node.name} and its activation: TensorRT cannot fuse the two"


def _additions(wiring: Wiring) -> Iterator[str]:
    for node in wiring.nodes:
        layers = [layer for name in node.input if (layer := fused_layer(wiring, FORM, name)) is not None]
        if node.op_type != "Add" or not layers:
            continue
        pairs = [name for name in node.input if wiring.pair(name) is not None]
        if len(pairs) == len(node.input):
            yield f"{node.name} reads {layers[-1].name} through a {QUANTISE}: TensorRT cannot add inside of the layer"
        elif len(pairs) < len(node.input) - 1 and _is_quantised_next(wiring, node):
            yield f"{node.name} reads two float inputs: TensorRT keeps its result in float, quantise one of them"


def _moves(wiring: Wiring) -> Iterator[str]:
    for node in wiring.nodes:
        if node.op_type not in MOVING:
            continue
        data = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        pairs = [pair for name in data if (pair := wiring.pair(name)) is not None]
        if pairs and len(pairs) < len(data):
            yield f"{node.name} reads floats beside integers: TensorRT joins either, quantise all inputs or none"
        behind = [reader for reader in wiring.readers_of(node) if reader.op_type == QUANTISE]
        if pairs and len({_scale(wiring, pair) for pair in (*pairs, *behind)}) > 1:
            yield f"{node.name} has different scales before and behind: TensorRT has to compute each value again"


def _ends(wiring: Wiring) -> Iterator[str]:
    needed = _leading_to_layers(wiring)
    for node in wiring.nodes:
        if node.op_type == QUANTISE and node.input[0] not in wiring.constants and node.name not in needed:
            yield f"{node.name} leads to no layer with integer weights: TensorRT only loses accuracy there"
    for name in sorted(wiring.outputs):
        if wiring.is_quantised(name):
            yield f"the output {name} comes from a {DEQUANTISE}: TensorRT keeps outputs in float"


RULES: tuple[Callable[[Wiring], Iterator[str]], ...] = (
    _types,
    _scales,
    _operators,
    _layers,
    _biases,
    _activations,
    _additions,
    _moves,
    _ends,
)


def _quantisers(wiring: Wiring) -> list[onnx.NodeProto]:
    return [node for node in wiring.nodes if node.op_type in (QUANTISE, DEQUANTISE)]


def _layers_of(wiring: Wiring) -> list[onnx.NodeProto]:
    return [
        node for node in wiring.nodes if node.op_type in FORM.weighted and wiring.is_quantised(input_of(node, WEIGHT))
    ]


def _is_of_weights(wiring: Wiring, node: onnx.NodeProto) -> bool:
    if node.op_type == DEQUANTISE and (pair := wiring.pair(node.output[0])) is not None:
        return pair.input[0] in wiring.constants
    return node.input[0] in wiring.constants


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _scale(wiring: Wiring, node: onnx.NodeProto) -> bytes:
    values = wiring.values(node.input[1])
    return b"" if values is None else values.tobytes()


def _is_quantised_next(wiring: Wiring, node: onnx.NodeProto) -> bool:
    readers = wiring.readers_of(node)
    if any(reader.op_type == QUANTISE for reader in readers):
        return True
    return any(reader.op_type in ACTIVATIONS and _is_quantised_next(wiring, reader) for reader in readers)


def _leading_to_layers(wiring: Wiring) -> set[str]:
    """Return the names of nodes whose values reach a layer with integer weights over operators between layers."""
    layers = {node.name for node in _layers_of(wiring)}
    found: set[str] = set()
    for node in reversed(wiring.nodes):
        passes = node.op_type in FORM.between or node.op_type in (QUANTISE, DEQUANTISE)
        if passes and any(reader.name in layers or reader.name in found for reader in wiring.readers_of(node)):
            found.add(node.name)
    return found
