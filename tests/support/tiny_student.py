"""Tiny hand-made networks that follow the model contract, for tests of the code around a network.

It is a real ONNX graph in the real runtime. The class map is the brightness of each 4x4 block, and the boxes are fixed
rows, so every value can be computed by hand. Tests about perception itself use the shipped student.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from shipped_classes import DETECTION_CLASSES, SEGMENTATION_CLASSES, UNLABELED_ID

from ros_kd_perception.model.contract import CONTRACT_KEY, ClassMapSpec, DetectionSpec, InputSpec, ModelContract
from ros_kd_perception.model.golden import GOLDEN_KEY, GoldenFrame, golden_to_text
from ros_kd_perception.model.onnx_runtime import onnxruntime
from ros_kd_perception.structures import Detections

HEIGHT, WIDTH, STRIDE, MAX_DETECTIONS = 64, 96, 4, 6

# Network-input pixels. Row 1 overlaps row 0 a little, row 3 is in the padding of a wide frame, row 4 is below 0.3.
BOXES_XYXY = np.array(
    [[8, 8, 40, 24], [50, 4, 90, 30], [0, 0, 12, 12], [2, 60, 30, 64], [10, 10, 20, 20], [0, 0, 0, 0]], np.float32
)
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.0], np.float32)
LABELS = np.array([0, 1, 3, 2, 0, 0], np.int32)

CONTRACT = ModelContract(
    name="tiny",
    version="1",
    precision="fp32",
    input=InputSpec(HEIGHT, WIDTH),
    class_map=ClassMapSpec(STRIDE, UNLABELED_ID, SEGMENTATION_CLASSES),
    detections=DetectionSpec(MAX_DETECTIONS, 0.3, DETECTION_CLASSES),
)


def expected_class_map(network_input: np.ndarray) -> np.ndarray:
    """Return the class map of a network input, uint8 `[H, W, 3]`: mean of each block's blue channel, over 24."""
    blocks = network_input[..., 0].reshape(HEIGHT // STRIDE, STRIDE, WIDTH // STRIDE, STRIDE).astype(np.float32)
    return np.floor(blocks.mean(axis=(1, 3)) / 24).astype(np.uint8)


def write_tiny_student(
    path: Path,
    contract: ModelContract = CONTRACT,
    change_graph: Callable[[onnx.ModelProto], None] | None = None,
    change_metadata: Mapping[str, str | None] | None = None,
) -> Path:
    """Write the tiny student. The two `change_*` arguments break it in one place; None removes a metadata key."""
    model = _build_graph(CONTRACT)
    metadata: dict[str, str | None] = {
        CONTRACT_KEY: contract.to_json(),
        GOLDEN_KEY: golden_to_text(golden_frames(model)),
        **(change_metadata or {}),
    }
    if change_graph is not None:
        change_graph(model)
    helper.set_model_props(model, {key: text for key, text in metadata.items() if text is not None})
    onnx.save(model, path)
    return path


def write_tiny_model(
    path: Path, contract: ModelContract, change_graph: Callable[[onnx.ModelProto], None] | None = None
) -> Path:
    """Write a network with the tasks, the input and the batch of a contract, and with its own golden frames."""
    model = _build_graph(contract)
    if change_graph is not None:
        change_graph(model)
    golden = golden_to_text(golden_frames(model, contract))
    helper.set_model_props(model, {CONTRACT_KEY: contract.to_json(), GOLDEN_KEY: golden})
    onnx.save(model, path)
    return path


def quantise(model: onnx.ModelProto) -> None:
    """Turn the class map's convolution into one of 8-bit integers: QDQ form, u8 activations, s8 weights per channel."""
    (conv,) = (node for node in model.graph.node if node.op_type == "Conv")
    (cast,) = (node for node in model.graph.node if list(node.output) == ["cell_rows"])
    pixel, cells = {"scale": np.float32(1), "zero": np.uint8(0)}, {"scale": np.float32(11 / 255), "zero": np.uint8(0)}
    step = np.float32(1 / (STRIDE * STRIDE * 24 * 127))
    weights = {"int8": _block(1).astype(np.int8) * 127, "scale": np.full(1, step), "zero": np.zeros(1, np.int8)}
    (old,) = (tensor for tensor in model.graph.initializer if tensor.name == "block")
    model.graph.initializer.remove(old)
    for name, values in {"pixel": pixel, "cells": cells, "weights": weights}.items():
        rows = [numpy_helper.from_array(np.asarray(value), f"{name}_{key}") for key, value in values.items()]
        model.graph.initializer.extend(rows)
    quantised = [
        *_quantised("float_images", "pixel"),
        helper.make_node("DequantizeLinear", ["weights_int8", "weights_scale", "weights_zero"], ["weights"], axis=0),
        *_quantised("cells", "cells"),
    ]
    at = list(model.graph.node).index(conv)
    conv.input[:] = ["float_images_near", "weights"]
    cast.input[0] = "cells_near"
    for offset, node in zip((0, 1, 2, 4, 5), quantised, strict=True):
        model.graph.node.insert(at + offset, node)


def _quantised(value: str, name: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    scale = [f"{name}_scale", f"{name}_zero"]
    return (
        helper.make_node("QuantizeLinear", [value, *scale], [f"{value}_int8"]),
        helper.make_node("DequantizeLinear", [f"{value}_int8", *scale], [f"{value}_near"]),
    )


def _block(weight: float) -> np.ndarray:
    """Return the weights of the class map's convolution: the sum of each block of the blue channel times a weight."""
    block = np.zeros((1, 3, STRIDE, STRIDE), np.float32)
    block[0, 0] = weight
    return block


def give_duplicates(model: onnx.ModelProto) -> None:
    """Report the first box three times: again with a lower score, and again as an object of another class."""
    rows = {"boxes_row": BOXES_XYXY[None].copy(), "labels_row": LABELS[None].copy()}
    rows["boxes_row"][0, 1:3] = BOXES_XYXY[0] + np.array([1, 0, 1, 0], np.float32)
    rows["labels_row"][0, :3] = (0, 0, 1)
    for tensor in model.graph.initializer:
        if tensor.name in rows:
            tensor.CopyFrom(numpy_helper.from_array(rows[tensor.name], tensor.name))


def double_a_shape(model: onnx.ModelProto) -> None:
    """Add 22 steps that each double a shape, so that ONNX Runtime tracks four million shape values when it opens the
    file.

    This takes half a gigabyte, and twice as much with each further step.
    """
    model.graph.node.append(helper.make_node("Shape", ["images"], ["doubled_0"]))
    for step in range(22):
        doubled = helper.make_node("Concat", [f"doubled_{step}"] * 2, [f"doubled_{step + 1}"], axis=0)
        model.graph.node.append(doubled)


def compute_for_long(model: onnx.ModelProto) -> None:
    """Add forty products of large matrices to each run, so that golden frames take twenty seconds on one thread."""
    (scaled,) = (node for node in model.graph.node if list(node.output) == ["uncertainty"])
    scaled.output[0] = "quick"
    model.graph.initializer.append(numpy_helper.from_array(np.array([2048, 2048]), "sides"))
    nodes = [helper.make_node("ConstantOfShape", ["sides"], ["product_0"])]
    nodes += [helper.make_node("MatMul", [f"product_{n}"] * 2, [f"product_{n + 1}"]) for n in range(40)]
    nodes.append(helper.make_node("ReduceMax", ["product_40"], ["nothing"], keepdims=0))
    nodes.append(helper.make_node("Add", ["quick", "nothing"], ["uncertainty"]))
    model.graph.node.extend(nodes)


def diverge_on_black(model: onnx.ModelProto) -> None:
    """Make the outputs NaN for a frame that is completely black, as on overflow in half precision."""
    (scaled,) = (node for node in model.graph.node if list(node.output) == ["uncertainty"])
    scaled.output[0] = "sound"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "zero"))
    model.graph.node.extend(
        [
            helper.make_node("Log", ["sound"], ["endless"]),
            helper.make_node("Mul", ["endless", "zero"], ["none"]),
            helper.make_node("Add", ["sound", "none"], ["uncertainty"]),
        ]
    )


def golden_frames(model: onnx.ModelProto, contract: ModelContract = CONTRACT) -> list[GoldenFrame]:
    """Return two golden frames, a gradient and noise, with the network's own outputs."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    height, width = contract.input.height, contract.input.width
    gradient = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (height, width, 3))
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    names = list(contract.output_shapes())
    frames = []
    for image in (np.ascontiguousarray(gradient), noise):
        outputs = dict(zip(names, session.run(names, {"images": image[None]}), strict=True))
        found = None
        if contract.detections is not None:
            found = Detections(*(outputs[name][0] for name in ("boxes", "scores", "labels"))).at_least(0.3)
        class_map = None if contract.class_map is None else outputs["class_map"][0]
        frames.append(GoldenFrame(image, class_map, found))
    return frames


def contract_with(**changes: object) -> ModelContract:
    """Return the tiny contract with some fields replaced."""
    return replace(CONTRACT, **changes)  # type: ignore[arg-type]


def _build_graph(contract: ModelContract) -> onnx.ModelProto:
    def constant(name: str, value: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(value, name)

    height, width = contract.input.height, contract.input.width
    shapes = contract.output_shapes()
    batch = contract.input.batch if isinstance(contract.input.batch, int) else "N"
    # The cells and blocks at the right and lower edge reach beyond an input of any size.
    cell_pads, block_pads = ([0, 0, -height % side, -width % side] for side in (STRIDE, 32))
    initializers = [
        constant("block", _block(1 / (STRIDE * STRIDE * 24))),
        constant("squeeze_axis", np.array([1], np.int64)),
        constant("boxes_row", BOXES_XYXY[None]),
        constant("scores_row", SCORES[None]),
        constant("labels_row", LABELS[None]),
        constant("one", np.array([1], np.int64)),
        constant("two", np.array([1, 1], np.int64)),
        constant("scale", np.array(1 / 255, np.float32)),
    ]
    nodes = [
        helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["nchw"], ["float_images"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["float_images", "block"], ["cells"], strides=[STRIDE, STRIDE], pads=cell_pads),
        helper.make_node("Squeeze", ["cells", "squeeze_axis"], ["cell_rows"]),
        helper.make_node("Floor", ["cell_rows"], ["floored"]),
        helper.make_node("Cast", ["floored"], ["class_map"], to=TensorProto.UINT8),
        helper.make_node("Shape", ["images"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "two"], ["repeat_boxes"], axis=0),
        helper.make_node("Concat", ["batch", "one"], ["repeat_rows"], axis=0),
        helper.make_node("Tile", ["boxes_row", "repeat_boxes"], ["boxes"]),
        helper.make_node("Tile", ["scores_row", "repeat_rows"], ["scores"]),
        helper.make_node("Tile", ["labels_row", "repeat_rows"], ["labels"]),
        helper.make_node(
            "AveragePool", ["float_images"], ["pooled"], kernel_shape=[32, 32], strides=[32, 32], pads=block_pads
        ),
        helper.make_node("ReduceMean", ["pooled", "squeeze_axis"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["uncertainty"]),
    ]
    types = {"class_map": TensorProto.UINT8, "labels": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "tiny_student",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, height, width, 3])],
        [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), [batch, *shape])
            for name, shape in shapes.items()
        ],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
