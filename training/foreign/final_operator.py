"""Finds the class scores behind a final ArgMax or Softmax of a network.

The scores before an ArgMax tell how sure the network is. A Softmax changes no decision and takes long at full size.
"""

from __future__ import annotations

from dataclasses import replace

import onnx

from training.foreign.description import SegmentationDescription
from training.foreign.foreign_file import ForeignFile, TensorInfo

_SAME_VALUES = {"Cast", "Identity"}
_SAME_NUMBERS = {*_SAME_VALUES, "Squeeze", "Unsqueeze"}
_LAYOUT_OF_AXIS = {1: "nchw", 3: "nhwc", -1: "nhwc", -3: "nchw"}
_SOFTMAX_ALONG_ONE_AXIS = 13  # before this version, it took all axes from the given one on together


def scores_before_final_operator(
    file: ForeignFile, description: SegmentationDescription, channels: int
) -> tuple[ForeignFile, SegmentationDescription]:
    """Return the file with the scores before a final ArgMax or Softmax as an output, and a description of that output.

    Args:
        file: The file.
        description: Meaning of its segmentation output.
        channels: How many classes the network tells apart.

    Returns:
        Both unchanged if the output comes from neither operator, or from another number of scores.
    """
    name = description.output or next(iter(file.outputs))
    if description.meaning == "logits" or name not in file.outputs:
        return file, description
    typed = onnx.shape_inference.infer_shapes(file.model)
    makers = {output: node for node in file.model.graph.node for output in node.output}
    opset = next((entry.version for entry in file.model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    meaning: str = description.meaning
    layout: str = description.layout
    scores = name
    if meaning == "class_ids":
        maker = _maker(makers, scores, _SAME_NUMBERS)
        axis = _attribute(maker, "axis", 0)
        if maker is None or maker.op_type != "ArgMax" or axis not in _LAYOUT_OF_AXIS:
            return file, description
        meaning, layout, scores = "logits", _LAYOUT_OF_AXIS[axis], maker.input[0]
    maker = _maker(makers, scores, _SAME_VALUES)
    if maker is not None and maker.op_type == "Softmax" and _is_along(maker, layout, opset):
        meaning, scores = "logits", maker.input[0]
    found = next((value for value in typed.graph.value_info if value.name == scores), None)
    if scores == name or found is None or not _has_channels(TensorInfo.of(found), layout, channels):
        return file, description
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    model.graph.output.append(found)
    changed = replace(file, model=model, outputs={**file.outputs, scores: TensorInfo.of(found)})
    return changed, description.replace(output=scores, layout=layout, meaning=meaning)


def _maker(makers: dict[str, onnx.NodeProto], name: str, passed: set[str]) -> onnx.NodeProto | None:
    """Return the node that makes a value, behind nodes of the operators in `passed`."""
    node = makers.get(name)
    while node is not None and node.op_type in passed:
        node = makers.get(node.input[0])
    return node


def _attribute(node: onnx.NodeProto | None, name: str, default: int) -> int:
    attributes = node.attribute if node is not None else ()
    return next((int(one.i) for one in attributes if one.name == name), default)


def _is_along(softmax: onnx.NodeProto, layout: str, opset: int) -> bool:
    """Return whether a Softmax of four axes is taken over the classes alone."""
    default = -1 if opset >= _SOFTMAX_ALONG_ONE_AXIS else 1
    axis = _attribute(softmax, "axis", default)
    return _LAYOUT_OF_AXIS.get(axis) == layout and (opset >= _SOFTMAX_ALONG_ONE_AXIS or layout == "nhwc")


def _has_channels(value: TensorInfo, layout: str, channels: int) -> bool:
    """Return whether a value has an axis of so many classes; an open axis counts as one."""
    if value.shape is None or len(value.shape) != 4:
        return False
    return value.shape[1 if layout == "nchw" else 3] in (channels, None)
