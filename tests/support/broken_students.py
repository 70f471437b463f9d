"""Students with one fault each: other weights, a blurred input, names that are swapped, outputs of NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_student import golden_frames

from ros_kd_perception.model.contract import CONTRACT_KEY, ClassInfo, ModelContract
from ros_kd_perception.model.golden import GOLDEN_KEY, golden_to_text


def write_changed_student(
    path: Path,
    source: Path,
    change_graph: Callable[[onnx.ModelProto], None] | None = None,
    change_contract: Callable[[ModelContract], ModelContract] | None = None,
) -> Path:
    """Write a copy of a student with a fault. Its golden frames are its own, so only its results show the fault.

    Args:
        path: File to write.
        source: The sound student.
        change_graph: Changes the network in place.
        change_contract: Returns another contract.
    """
    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    contract = ModelContract.from_json(metadata[CONTRACT_KEY])
    if change_graph is not None:
        change_graph(model)
    if change_contract is not None:
        contract = change_contract(contract)
    golden = golden_to_text(golden_frames(model, contract))
    helper.set_model_props(model, {CONTRACT_KEY: contract.to_json(), GOLDEN_KEY: golden})
    onnx.save(model, path)
    return path


def perturb_weights(strength: float) -> Callable[[onnx.ModelProto], None]:
    """Return what adds noise to the weights of all convolutions, `strength` times their standard deviation."""

    def change(model: onnx.ModelProto) -> None:
        random = np.random.default_rng(0)
        weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                values = numpy_helper.to_array(tensor)
                scale = strength * (values.std() + np.abs(values).mean())
                noisy = values + scale * random.standard_normal(values.shape)
                tensor.CopyFrom(numpy_helper.from_array(noisy.astype(values.dtype), tensor.name))

    return change


def blur_input(model: onnx.ModelProto, side_px: int = 15) -> None:
    """Let the network see a blurred picture, as with a lens out of focus."""
    for node in model.graph.node:
        node.input[:] = ["blurred_images" if name == "images" else name for name in node.input]
    pads = [side_px // 2] * 4
    nodes = [
        helper.make_node("Cast", ["images"], ["blur_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["blur_float"], ["blur_channels"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["blur_channels"], ["blur_mean"], kernel_shape=[side_px, side_px], strides=[1, 1], pads=pads
        ),
        helper.make_node("Transpose", ["blur_mean"], ["blur_rows"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["blur_rows"], ["blurred_images"], to=TensorProto.UINT8),
    ]
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)


def swap_names(one: str, other: str) -> Callable[[ModelContract], ModelContract]:
    """Return what swaps two classes of a contract, in masks and in boxes."""
    return rename({one: other, other: one})


def rename(names: dict[str, str]) -> Callable[[ModelContract], ModelContract]:
    """Return what gives classes of a contract other names."""

    def renamed(classes: tuple[ClassInfo, ...]) -> tuple[ClassInfo, ...]:
        return tuple(replace(info, name=names.get(info.name, info.name)) for info in classes)

    def change(contract: ModelContract) -> ModelContract:
        masks, boxes = contract.class_map, contract.detections
        assert masks is not None
        assert boxes is not None
        drivable = tuple(names.get(name, name) for name in masks.drivable)
        masks = replace(masks, classes=renamed(masks.classes), drivable=drivable)
        return replace(contract, class_map=masks, detections=replace(boxes, classes=renamed(boxes.classes)))

    return change
