"""Who writes and who reads a tensor of a graph, and which tensors pass through QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Wiring:
    """A graph with its tensors looked up by name.

    Attributes:
        nodes: Its nodes, in topological order.
        writers: The node that writes each tensor.
        readers: The nodes that read each tensor, in topological order.
        constants: Tensors with fixed values.
        outputs: Names of the outputs of the graph.
    """

    nodes: Sequence[onnx.NodeProto]
    writers: Mapping[str, onnx.NodeProto]
    readers: Mapping[str, Sequence[onnx.NodeProto]]
    constants: Mapping[str, onnx.TensorProto]
    outputs: frozenset[str]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Wiring:
        """Read a graph. Later changes of the graph do not show."""
        nodes = list(graph.node)
        readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in nodes:
            for name in dict.fromkeys(filter(None, node.input)):
                readers[name].append(node)
        return cls(
            nodes,
            {name: node for node in nodes for name in node.output if name},
            readers,
            {tensor.name: tensor for tensor in graph.initializer},
            frozenset(value.name for value in graph.output),
        )

    def pair(self, name: str) -> onnx.NodeProto | None:
        """Return the QuantizeLinear whose DequantizeLinear writes a tensor; None for a tensor without the two."""
        dequantise = self.writers.get(name)
        if dequantise is None or dequantise.op_type != DEQUANTISE:
            return None
        quantise = self.writers.get(dequantise.input[0])
        return quantise if quantise is not None and quantise.op_type == QUANTISE else None

    def is_quantised(self, name: str) -> bool:
        """Say whether a DequantizeLinear writes a tensor, be it from a QuantizeLinear or from stored integers."""
        writer = self.writers.get(name)
        return writer is not None and writer.op_type == DEQUANTISE

    def readers_of(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the nodes that read an output of a node."""
        return [reader for name in node.output for reader in self.readers.get(name, ())]

    def values(self, name: str) -> NDArray[Any] | None:
        """Return the values of a constant, None for any other tensor."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def behind_pairs(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Yield the nodes that read a node, those behind a QuantizeLinear and DequantizeLinear in place of the two."""
        for reader in self.readers_of(node):
            if reader.op_type == QUANTISE:
                yield from (last for middle in self.readers_of(reader) for last in self.readers_of(middle))
            else:
                yield reader


def input_of(node: onnx.NodeProto, index: int) -> str:
    """Return the name of an input, empty if it is left out."""
    return str(node.input[index]) if index < len(node.input) else ""
