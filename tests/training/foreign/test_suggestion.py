"""Drafts of descriptions: valid YAML with what the file says, and guesses marked as guesses."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from foreign_networks import HEIGHT, WIDTH, save_network
from onnx import helper

from training.foreign.classes import own_label_set
from training.foreign.description import ForeignDescription
from training.foreign.foreign_file import ForeignFile
from training.foreign.suggestion import suggest_description

CASES: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, Any]]] = {
    "cityscapes": ({"s": (1, 19, HEIGHT, WIDTH)}, {"segmentation": {"layout": "nchw", "meaning": "logits"}}),
    "nhwc": ({"s": (1, HEIGHT, WIDTH, 11)}, {"segmentation": {"layout": "nhwc", "classes": "camvid11"}}),
    "yolov8": ({"s": (1, 7, 126)}, {"detection": {"kind": "yolov8"}}),
    "yolox": ({"s": (1, 126, 8)}, {"detection": {"kind": "yolox"}}),
    "rows": ({"s": (1, 300, 6)}, {"detection": {"kind": "nms_done"}}),
    "detr": ({"logits": (1, 20, 3), "pred_boxes": (1, 20, 4)}, {"detection": {"kind": "detr", "logits": "logits"}}),
    "apart": ({"boxes": (1, 20, 4), "scores": (1, 20, 3)}, {"detection": {"kind": "boxes_scores", "scores": "scores"}}),
    "tensorflow": (
        {"detection_boxes": (1, 9, 4), "detection_scores": (1, 9), "detection_classes": (1, 9), "num_detections": (1,)},
        {"detection": {"kind": "nms_done", "labels": "detection_classes", "count": "num_detections"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_draft_has_the_form_of_the_outputs(tmp_path: Path, case: str) -> None:
    shapes, expected = CASES[case]
    path = save_network(tmp_path / "net.onnx", {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})

    draft = suggest_description(ForeignFile.read(path))

    content = yaml.safe_load(draft)
    (task,) = expected
    assert content[task] | expected[task] == content[task]
    assert content["input"]["layout"] == "nchw"
    assert "guess" in draft
    if content[task]["classes"]:
        ForeignDescription.checked(content)


def test_a_draft_looks_behind_open_shapes_and_at_the_last_operator(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1, 5, HEIGHT, WIDTH)).astype(np.float32)
    nodes = [helper.make_node("Softmax", ["inner"], ["shares"], axis=1)]
    path = save_network(tmp_path / "net.onnx", {"inner": values, "shares": values}, extra_nodes=nodes, height="h")
    model = onnx.load(str(path))
    del model.graph.output[0]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, str(path))

    content = yaml.safe_load(suggest_description(ForeignFile.read(path)))

    assert content["input"]["height"] == 512
    assert content["segmentation"]["meaning"] == "probabilities"
    assert len(content["segmentation"]["classes"]) == 5


def test_a_network_has_the_tables_of_the_label_set_that_describes_it() -> None:
    description = ForeignDescription.checked(
        {
            "segmentation": {"classes": "camvid11", "ignored": ["sign"]},
            "detection": {"kind": "yolox", "classes": ["car"]},
        }
    )

    own = own_label_set(description, "mine")

    assert own.name == "camvid11"
    assert "sign" not in {info.name for info in own.segmentation}
    assert [info.name for info in own.detection] == ["car"]
    assert own.mappings["cityscapes19"].segmentation["tree"] == "vegetation"
    assert "sign" not in own.mappings["cityscapes19"].segmentation
