"""Tiny files, and frames whose labels are what one of them perceives, so that a file can be right or wrong on them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import numpy_helper
from tiny_student import HEIGHT, WIDTH

from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Frame
from training.compare.recipe import ScoreRecipe
from training.data.readers.registry import source_of

FRAMES = 12


def dim(model: onnx.ModelProto) -> None:
    """Make the class map of the network that of darker frames, and its second box another place."""
    for tensor in model.graph.initializer:
        if tensor.name == "block":
            tensor.CopyFrom(numpy_helper.from_array(0.9 * numpy_helper.to_array(tensor), tensor.name))
        if tensor.name == "boxes_row":
            boxes = numpy_helper.to_array(tensor).copy()
            boxes[0, 1] += 15
            tensor.CopyFrom(numpy_helper.from_array(boxes, tensor.name))


def write_frames(folder: Path, parent: Path, count: int = FRAMES) -> Path:
    """Write noisy frames with the labels that the parent gives them; some boxes are missing here and there."""
    rng, perceiver, boxes = np.random.default_rng(0), Perceiver.open(parent, device="cpu"), {}
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        image = np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST), np.uint8)
        perception = perceiver.perceive([Frame.from_image(image)])[0]
        assert perception.class_map is not None
        assert perception.detections is not None
        cv2.imwrite(str(folder / "images" / f"{number:03}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{number:03}.png"), perception.class_map)
        kept = rng.random(len(perception.detections.labels)) < 0.8
        boxes[f"{number:03}"] = {
            "boxes_xyxy": perception.detections.boxes_xyxy[kept].tolist(),
            "labels": perception.detections.labels[kept].tolist(),
        }
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder


def score_of(folder: Path, name: str = "val") -> ScoreRecipe:
    return ScoreRecipe(name=name, frames=source_of("rendered", {"folder": folder, "check_shares": False}))
