"""Builds one ONNX graph of a foreign network: uint8 images in, decoded outputs out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from ros_kd_perception.model.contract import UNCERTAINTY_BLOCK_PX
from ros_kd_perception.model.onnx_file import INTEGER_OPERATORS
from training.foreign.classes import OutputClasses, detection_classes, segmentation_classes
from training.foreign.description import ForeignDescription, SegmentationDescription
from training.foreign.detection import DetectionWriter
from training.foreign.final_operator import scores_before_final_operator
from training.foreign.foreign_file import ForeignFile
from training.foreign.graph_writer import GraphWriter
from training.foreign.network import BATCH_AXIS, Batch, Network
from training.foreign.network_input import IMAGES, write_input
from training.foreign.segmentation import NumberedClasses, ScoredClasses, SegmentationWriter

CONTRACT_TYPES = {
    "class_map": np.uint8,
    "boxes": np.float32,
    "scores": np.float32,
    "labels": np.int32,
    "uncertainty": np.float32,
}
TEACHER_TYPES = {"probabilities": np.float32, "boxes": np.float32, "scores": np.float32}


@dataclass(frozen=True)
class ForeignGraph:
    """A foreign network with decoded outputs.

    Attributes:
        model: The graph, without metadata. Its input is `images`, uint8 [N or 1, H, W, 3].
        height, width: Size of the input in pixels.
        batch: Whether it takes one frame or any number of them.
        precision: `fp32`, `fp16` or `int8`, by the weights.
        stride: Side of one cell of the class map in input pixels; None without segmentation.
        rows: Boxes of a frame in the outputs of the contract; None without detection.
        segmentation, detection: The classes of each task; None without it.
    """

    model: onnx.ModelProto
    height: int
    width: int
    batch: Batch
    precision: str
    stride: int | None
    rows: int | None
    segmentation: OutputClasses | None
    detection: OutputClasses | None


def build_graph(
    file: ForeignFile, description: ForeignDescription, batch: Batch, outputs: Literal["contract", "teacher"]
) -> ForeignGraph:
    """Build a graph around a foreign network.

    Args:
        file: The foreign network.
        description: Meaning of its inputs and outputs.
        batch: Whether the graph takes one frame or any number of them.
        outputs: `contract`: `class_map` and `uncertainty`, `boxes`, `scores` and `labels` as in
            `ros_kd_perception.model.contract`, those of absent tasks left out. `teacher`: `probabilities`, float32
            [N, C, h, w] in the network's own cells; all its `boxes`, float32 [N, A, 4] xyxy in input pixels, and
            `scores`, float32 [N, A, C].

    Raises:
        ModelFileError: The file cannot be used, or is not as described.
        RecipeError: The description names classes that do not exist, or does not fit the file.
    """
    masks, boxes = segmentation_classes(description), detection_classes(description)
    part = description.segmentation
    if part and masks:
        file, part = scores_before_final_operator(file, part, masks.channels)
    network, writer = Network.of(file, description.input, batch), GraphWriter()
    write_input(writer, network, description.input)
    count_before = len(writer.nodes)
    segmentation = _segmentation_writer(writer, network, part, masks) if part and masks else None
    detection = (
        DetectionWriter(writer, network, description.detection, boxes) if description.detection and boxes else None
    )
    tasks = [task for task in (segmentation, detection) if task is not None]
    for task in tasks:
        if outputs == "contract":
            task.write_contract()
        else:
            task.write_teacher()
    stride, rows = segmentation.stride if segmentation else None, detection.rows if detection else None
    for_vehicle = outputs == "contract"
    types = CONTRACT_TYPES if for_vehicle else TEACHER_TYPES
    return ForeignGraph(
        _joined(network, writer, count_before, types, _contract_shapes(network, stride, rows) if for_vehicle else {}),
        network.height,
        network.width,
        batch,
        _precision(network.model),
        stride,
        rows,
        masks,
        boxes,
    )


def _segmentation_writer(
    writer: GraphWriter, network: Network, part: SegmentationDescription, classes: OutputClasses
) -> SegmentationWriter:
    kind = NumberedClasses if part.meaning == "class_ids" else ScoredClasses
    return kind(writer, network, part, classes)


def _joined(
    network: Network,
    writer: GraphWriter,
    count_before: int,
    types: Mapping[str, type],
    shapes: Mapping[str, list[int | str]],
) -> onnx.ModelProto:
    """Return one model of the nodes before the foreign graph, the foreign graph and the nodes after it."""
    foreign = network.model.graph
    made = {name for node in writer.nodes for name in node.output}
    nodes = [*writer.nodes[:count_before], *foreign.node, *writer.nodes[count_before:]]
    names = [name for name in types if name in made]
    nodes = _needed(nodes, names)
    used = {name for node in nodes for name in node.input}
    batch = BATCH_AXIS if network.batch == "dynamic" else 1
    images = onnx.helper.make_tensor_value_info(
        IMAGES, onnx.TensorProto.UINT8, [batch, network.height, network.width, 3]
    )
    graph = onnx.helper.make_graph(
        nodes,
        "adopted",
        [images],
        [_declared(name, types[name], shapes.get(name)) for name in names],
        [tensor for tensor in (*foreign.initializer, *writer.initializers) if tensor.name in used],
    )
    model = onnx.helper.make_model(graph, opset_imports=network.model.opset_import, producer_name="ros_kd_perception")
    model.ir_version = network.model.ir_version
    return model


def _declared(name: str, dtype: type, shape: list[int | str] | None) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _contract_shapes(network: Network, stride: int | None, rows: int | None) -> dict[str, list[int | str]]:
    """Return the shapes of the outputs of the contract."""
    batch: int | str = BATCH_AXIS if network.batch == "dynamic" else 1
    shapes: dict[str, list[int | str]] = {}
    if stride:
        shapes["class_map"] = [batch, -(-network.height // stride), -(-network.width // stride)]
        block = UNCERTAINTY_BLOCK_PX
        shapes["uncertainty"] = [batch, -(-network.height // block), -(-network.width // block)]
    if rows:
        shapes |= {"boxes": [batch, rows, 4], "scores": [batch, rows], "labels": [batch, rows]}
    return shapes


def _needed(nodes: list[onnx.NodeProto], outputs: list[str]) -> list[onnx.NodeProto]:
    """Return the nodes that lead to the outputs, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _precision(model: onnx.ModelProto) -> str:
    """Return the precision of the weights."""
    if any(node.op_type in INTEGER_OPERATORS for node in model.graph.node):
        return "int8"
    halves = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "fp16" if halves else "fp32"
