"""Places QuantizeLinear and DequantizeLinear where TensorRT fuses them. `tensorrt_rules` names and checks the rules.

ONNX Runtime's quantiser already puts both at the inputs of an operator alone. Two rules are left for this module.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from training.quantization.forms import IntegerForm
from training.quantization.ranges import TensorRange
from training.quantization.wiring import DEQUANTISE, QUANTISE, Wiring, input_of

# These move values without changing them. With one scale before and behind, they move integers.
MOVING = frozenset({"Concat", "MaxPool", "Resize"})


def shared_ranges(graph: onnx.GraphProto, ranges: Mapping[str, TensorRange]) -> dict[str, TensorRange]:
    """Return the ranges, with one range for all tensors that a Concat, MaxPool or Resize joins.

    Args:
        graph: The network.
        ranges: The range of each activation that becomes integers.
    """
    groups = {name: {name} for name in ranges}
    for node in graph.node:
        if node.op_type in MOVING:
            data = node.input if node.op_type == "Concat" else node.input[:1]
            joined: set[str] = set().union(*(groups.get(name, set()) for name in (*data, *node.output)))
            groups |= dict.fromkeys(joined, joined)
    return {
        name: TensorRange(min(ranges[one].lowest for one in group), max(ranges[one].highest for one in group))
        for name, group in groups.items()
    }


def free_fused_additions(model: onnx.ModelProto, form: IntegerForm) -> None:
    """Let an addition read one of its convolutions directly, so that TensorRT adds inside of the convolution.

    The other input keeps its QuantizeLinear and DequantizeLinear. Of two convolutions, the later one is freed, because
    the result of the other one is there before.
    """
    wiring = Wiring.of(model.graph)
    place = {id(node): number for number, node in enumerate(wiring.nodes)}
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        sources = {slot: fused_layer(wiring, form, name) for slot, name in enumerate(node.input)}
        found = {slot: place[id(layer)] for slot, layer in sources.items() if layer is not None}
        if found:
            slot = max(found, key=lambda slot: found[slot])
            pair = wiring.pair(node.input[slot])
            if pair is not None:
                node.input[slot] = pair.input[0]
    _remove_unread_pairs(model.graph)


def fused_layer(wiring: Wiring, form: IntegerForm, name: str) -> onnx.NodeProto | None:
    """Return the layer with integer weights that writes a tensor for one reader alone, directly or through a pair."""
    pair = wiring.pair(name)
    layer = wiring.writers.get(name if pair is None else pair.input[0])
    if layer is None or layer.op_type not in form.weighted or not wiring.is_quantised(input_of(layer, 1)):
        return None
    only_reader = len(list(wiring.behind_pairs(layer))) == 1 and wiring.outputs.isdisjoint(layer.output)
    return layer if only_reader else None


def _remove_unread_pairs(graph: onnx.GraphProto) -> None:
    for kind in (DEQUANTISE, QUANTISE):
        wiring = Wiring.of(graph)
        for node in wiring.nodes:
            if node.op_type == kind and not wiring.readers_of(node) and wiring.outputs.isdisjoint(node.output):
                graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
