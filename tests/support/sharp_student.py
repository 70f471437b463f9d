"""A tiny student that sees fine detail only, and frames that are full of it: blur must take its score away."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import helper, numpy_helper
from shipped_classes import UNLABELED_ID
from tiny_student import contract_with, write_tiny_model

from ros_kd_perception.model.contract import InputSpec
from training.data.readers.source import BOXES_FILE

HEIGHT, WIDTH, CELL_PX = 256, 384, 2
DETAIL, FLAT = 1, 0  # what the student calls a place with detail, and one without
_LEAST_CONTRAST = 0.3  # mean size of the second derivative, over the brightness, below which a place is flat


def write_sharp_student(path: Path) -> Path:
    """Write a network whose class map is DETAIL where the picture has fine contrast, and FLAT elsewhere."""
    return write_tiny_model(path, contract_with(input=InputSpec(HEIGHT, WIDTH)), _see_detail)


def write_detailed_frames(folder: Path, count: int = 6) -> Path:
    """Write frames of random dots, all of class DETAIL, with one box each."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    boxes = {}
    for number in range(count):
        rng = np.random.default_rng(number)
        dots = rng.choice((60, 200), (HEIGHT // CELL_PX, WIDTH // CELL_PX, 1)).astype(np.uint8)
        image = cv2.resize(dots.repeat(3, axis=2), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        mask = np.full((HEIGHT, WIDTH), DETAIL, np.uint8)
        mask[:8] = UNLABELED_ID
        cv2.imwrite(str(folder / "images" / f"d_{number}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"d_{number}.png"), mask)
        boxes[f"d_{number}"] = {"boxes_xyxy": [[100, 80, 200, 180]], "labels": [0]}
    (folder / BOXES_FILE).write_text(json.dumps(boxes))
    return folder


def _see_detail(model: onnx.ModelProto) -> None:
    """Let the class map follow the size of the second derivative of each channel, divided by the brightness."""
    graph = model.graph
    laplace = np.zeros((3, 1, 3, 3), np.float32)
    laplace[:, 0] = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    for name, value in {
        "laplace": laplace,
        "least": np.array(_LEAST_CONTRAST, np.float32),
        "a_level": np.array(1, np.float32),
    }.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    (conv,) = (node for node in graph.node if list(node.output) == ["cells"])
    (floored,) = (node for node in graph.node if list(node.output) == ["floored"])
    mean = {"kernel_shape": [17, 17], "pads": [8, 8, 8, 8], "count_include_pad": 0}
    nodes = [
        helper.make_node("Conv", ["float_images", "laplace"], ["second"], pads=[1, 1, 1, 1], group=3),
        helper.make_node("Abs", ["second"], ["sizes"]),
        helper.make_node("AveragePool", ["sizes"], ["detail"], **mean),
        helper.make_node("AveragePool", ["float_images"], ["average"], **mean),
        helper.make_node("Add", ["average", "a_level"], ["above_zero"]),
        helper.make_node("Div", ["detail", "above_zero"], ["contrast"]),
    ]
    at = list(graph.node).index(conv)
    conv.input[0] = "contrast"
    for offset, node in enumerate(nodes):
        graph.node.insert(at + offset, node)
    # `block` takes a mean over 24: a step at _LEAST_CONTRAST makes it a class.
    floored.CopyFrom(helper.make_node("Greater", ["scaled_rows", "least"], ["is_detail"]))
    at = next(place for place, node in enumerate(graph.node) if list(node.output) == ["is_detail"])
    graph.initializer.append(numpy_helper.from_array(np.array(24, np.float32), "of_block"))
    graph.node.insert(at, helper.make_node("Mul", ["cell_rows", "of_block"], ["scaled_rows"]))
    (cast,) = (node for node in graph.node if list(node.output) == ["class_map"])
    cast.input[0] = "is_detail"
