"""Makes the first layer of an 8-bit file for CPUs read the pixels of the image themselves, and read them fast.

The quantiser writes the way from pixels to the first layer as for any activation: bytes become floats, and these
become the same bytes again. And a convolution over three channels copies its input in pieces of three bytes, which is
slow. Both changes give the same integers, so the outputs are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

STRIDE, KERNEL_PX, CHANNELS = 2, 3, 3
BLOCK_PX = 4  # pixels in a row that become the channels of one; two outputs see them
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True)
class _Stem:
    """The nodes from the image to the first convolution."""

    transpose: onnx.NodeProto
    cast: onnx.NodeProto
    quantise: onnx.NodeProto
    dequantise: onnx.NodeProto
    convolution: onnx.NodeProto


def read_pixels_directly(model: onnx.ModelProto) -> None:
    """Change the first layer of a quantised graph in place; a graph that begins in another way stays as it is.

    The pixels stay bytes. A 3x3 convolution of stride 2 becomes one over blocks of four pixels in a row, each with 12
    channels, which computes two outputs at once: bytes lie in the same order in both, so nothing is copied.

    Args:
        model: Graph of `with_integers`, whose input is uint8 [N, H, W, 3].
    """
    graph = model.graph
    stem = _find_stem(graph)
    if stem is None:
        return
    for node in (stem.cast, stem.quantise):
        graph.node.remove(node)
    stem.dequantise.input[0] = stem.transpose.output[0]
    last = _integers_of(graph, stem.convolution)
    height, width = (side.dim_value for side in graph.input[0].type.tensor_type.shape.dim[1:3])
    if last is not None and not height % STRIDE and not width % BLOCK_PX and _is_stride_2(graph, stem.convolution):
        _compute_in_blocks(graph, stem, last, height, width)
    _forget_shapes(graph)


def _find_stem(graph: onnx.GraphProto) -> _Stem | None:
    """Return the nodes before the first convolution if pixels come to it unchanged."""
    nodes = [_only_reader(graph, graph.input[0].name)]
    for _ in range(4):
        nodes.append(None if nodes[-1] is None else _only_reader(graph, nodes[-1].output[0]))
    there = [node for node in nodes if node is not None]
    if [node.op_type for node in there] != ["Transpose", "Cast", "QuantizeLinear", "DequantizeLinear", "Conv"]:
        return None
    found = _Stem(*there)
    unchanged = [_constant(graph, name).tolist() for name in found.quantise.input[1:]] == [1.0, 0]
    return found if _settings(found.transpose)["perm"] == TO_CHANNELS_FIRST and unchanged else None


def _integers_of(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the node that makes integers of the features of a convolution, behind its activation function."""
    reader = _only_reader(graph, convolution.output[0])
    if reader is not None and reader.op_type in ACTIVATIONS:
        reader = _only_reader(graph, reader.output[0])
    return reader if reader is not None and reader.op_type == "QuantizeLinear" else None


def _is_stride_2(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> bool:
    settings = _settings(convolution)
    expected = {"kernel_shape": [KERNEL_PX] * 2, "strides": [STRIDE] * 2, "pads": [1] * 4}
    usual = {"dilations": [1, 1], "group": 1, "auto_pad": b"NOTSET"}
    return all(settings.get(name) == value for name, value in expected.items()) and all(
        settings.get(name, value) == value for name, value in usual.items()
    )


def _compute_in_blocks(graph: onnx.GraphProto, stem: _Stem, last: onnx.NodeProto, height: int, width: int) -> None:
    """Let the convolution step from block to block, and take its outputs apart as integers."""
    outputs = _double_outputs(graph, stem.convolution)
    del stem.convolution.attribute[:]
    stem.convolution.attribute.extend(
        helper.make_attribute(name, value)
        for name, value in {"kernel_shape": [KERNEL_PX, 2], "strides": [STRIDE, 1], "pads": [1, 1, 1, 0]}.items()
    )
    blocks = {"image_blocks_shape": [0, height, width // BLOCK_PX, BLOCK_PX * CHANNELS]}
    apart = {"features_shape": [0, height // STRIDE, width // STRIDE, outputs]}
    for name, shape in (blocks | apart).items():
        graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
    image = helper.make_node("Reshape", [graph.input[0].name, *blocks], ["image_blocks"], name="image_blocks")
    graph.node.insert(_place(graph, stem.transpose), image)
    stem.transpose.input[0] = "image_blocks"
    integers, last.output[0] = last.output[0], "features_of_blocks"
    after: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Transpose", ["features_of_blocks"], "features_last", {"perm": TO_CHANNELS_LAST}),
        ("Reshape", ["features_last", *apart], "features_apart", {}),
        ("Transpose", ["features_apart"], integers, {"perm": TO_CHANNELS_FIRST}),
    ]
    for place, (kind, inputs, output, settings) in enumerate(after, _place(graph, last) + 1):
        graph.node.insert(place, helper.make_node(kind, inputs, [output], name=f"{output}_{kind}", **settings))


def _double_outputs(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> int:
    """Replace the parameters of a convolution by those over blocks; return the number of outputs before."""
    kernel, *others = _parameters(graph, convolution)
    values = numpy_helper.to_array(kernel)
    kernel.CopyFrom(numpy_helper.from_array(_of_blocks(values), kernel.name))
    for parameter in others:
        both = np.concatenate([numpy_helper.to_array(parameter)] * STRIDE)
        parameter.CopyFrom(numpy_helper.from_array(both, parameter.name))
    return len(values)


def _parameters(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """Yield kernel, bias, and their scales and zero points by output; each is a constant of this layer alone."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for name in convolution.input[1:]:
        source = next((node for node in graph.node if name in node.output), None)
        for constant in [name] if source is None else source.input:
            if constants[constant].dims:
                yield constants[constant]


def _of_blocks(kernel: NDArray[Any]) -> NDArray[Any]:
    """Return a kernel [out, 3, 3, 3] as one over blocks, [2 * out, 12, 3, 2].

    A block's channels are (pixel, channel), those of an output (column, out). The first output of a block sees the last
    pixel of the block before.
    """
    outputs = len(kernel)
    blocks = np.zeros((STRIDE, outputs, BLOCK_PX, CHANNELS, KERNEL_PX, 2), kernel.dtype)
    for place in range(STRIDE):
        for column in range(KERNEL_PX):
            block, pixel = divmod(BLOCK_PX + STRIDE * place + column - 1, BLOCK_PX)
            blocks[place, :, pixel, :, :, block] = kernel[:, :, :, column]
    return blocks.reshape(STRIDE * outputs, BLOCK_PX * CHANNELS, KERNEL_PX, 2)


def _forget_shapes(graph: onnx.GraphProto) -> None:
    """Remove shapes of intermediate values: some have changed, and they can be inferred."""
    del graph.value_info[:]


def _only_reader(graph: onnx.GraphProto, tensor: str) -> onnx.NodeProto | None:
    readers = [node for node in graph.node if tensor in node.input]
    return readers[0] if len(readers) == 1 and readers[0].input[0] == tensor and not _is_output(graph, tensor) else None


def _is_output(graph: onnx.GraphProto, tensor: str) -> bool:
    return any(value.name == tensor for value in graph.output)


def _constant(graph: onnx.GraphProto, name: str) -> NDArray[Any]:
    return next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name)


def _settings(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _place(graph: onnx.GraphProto, node: onnx.NodeProto) -> int:
    return next(place for place, one in enumerate(graph.node) if one.output == node.output)
