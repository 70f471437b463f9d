"""`python -m training adopt`: foreign files become files that the perceiver runs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from foreign_networks import HEIGHT, WIDTH, save_convolution, save_network, save_two_objects
from onnx import helper

from ros_kd_perception.model.contract import CONTRACT_KEY
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.sample_drive.training_samples import write_samples
from ros_kd_perception.structures import Frame
from training.__main__ import main

NAMES = ["road", "car", "sky", "person"]
RNG = np.random.default_rng(2)
FRAME = Frame("front", 5, "camera", RNG.integers(0, 256, (90, 160, 3), np.uint8))


def words_of(folder: Path, description: dict[str, Any]) -> list[str]:
    """Write a description, and return the command that adopts folder/net.onnx as folder/model.onnx by it."""
    (folder / "net.yaml").write_text(yaml.safe_dump(description))
    network, output = str(folder / "net.onnx"), str(folder / "model.onnx")
    return ["adopt", network, "--describe", str(folder / "net.yaml"), "-o", output]


def adopt(folder: Path, description: dict[str, Any], *options: str) -> Path:
    assert main([*words_of(folder, description), *options]) == 0
    return folder / "model.onnx"


def test_a_segmentation_runs_in_the_perceiver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_convolution(tmp_path / "net.onnx", "n")
    description = {"input": {"resize": "stretch", "divide": 255}, "segmentation": {"classes": NAMES}}

    model = OnnxModel.open(adopt(tmp_path, description, "--name", "mine"), device="cpu")
    (perception,) = Perceiver(model).perceive([FRAME])

    contract = model.contract
    assert (contract.name, contract.tasks, contract.precision) == ("mine", ("segmentation",), "fp32")
    assert (contract.input.resize, contract.input.channels, contract.input.batch) == ("stretch", "rgb", "dynamic")
    assert contract.derived["steps"] == ["adopt net.onnx"]
    assert len(contract.derived["from_sha256"]) == 64
    assert [info.name for info in contract.segmentation_classes] == NAMES
    assert perception.class_map is not None
    assert perception.class_map.shape == (90, 160)
    assert perception.detections is None
    assert "100.000%" in capsys.readouterr().out


def test_a_graph_that_counts_on_one_frame_is_adopted_for_one(tmp_path: Path) -> None:
    save_convolution(tmp_path / "net.onnx", "n")
    model = onnx.load(str(tmp_path / "net.onnx"))
    shape = onnx.numpy_helper.from_array(np.array([1, 4, HEIGHT // 2, WIDTH // 2]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Reshape", ["y", "shape"], ["z"]))
    model.graph.output[0].name = "z"
    onnx.save(model, str(tmp_path / "net.onnx"))

    adopted = OnnxModel.open(adopt(tmp_path, {"segmentation": {"classes": NAMES}}), device="cpu")

    assert adopted.contract.input.batch == 1


def test_a_golden_frame_of_a_large_input_fits_into_the_file(tmp_path: Path) -> None:
    save_convolution(tmp_path / "net.onnx", 1, height=1088, width=1920)

    adopted = adopt(tmp_path, {"input": {"divide": 255}, "segmentation": {"classes": NAMES}})

    assert OnnxModel.open(adopted, device="cpu").golden is not None


def test_half_precision_is_kept(tmp_path: Path) -> None:
    save_convolution(tmp_path / "net.onnx", 1)
    model = onnx.load(str(tmp_path / "net.onnx"))
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).astype(np.float16)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, str(tmp_path / "net.onnx"))

    adopted = adopt(tmp_path, {"input": {"divide": 255}, "segmentation": {"classes": NAMES}})

    assert OnnxModel.open(adopted, device="cpu").contract.precision == "fp16"
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in onnx.load(str(adopted)).graph.initializer}


def test_boxes_come_without_duplicates(tmp_path: Path) -> None:
    save_two_objects(tmp_path / "net.onnx")
    adopted = adopt(tmp_path, {"detection": {"kind": "yolov8", "classes": NAMES}})

    (perception,) = Perceiver(OnnxModel.open(adopted, device="cpu")).perceive([FRAME])

    found = perception.detections
    assert found is not None
    np.testing.assert_allclose(found.scores, [0.9, 0.7], atol=1e-6)
    np.testing.assert_array_equal(found.labels, [1, 3])
    # The network's input is 96x64, and the frame of 160x90 lies in it as 96x54.
    expected = np.array([20, 15, 40, 25]) * np.array([160 / 96, 90 / 54] * 2)
    np.testing.assert_allclose(found.boxes_xyxy[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        (
            {"segmentation": {"classes": NAMES, "meaning": "probabilities"}},
            "expected probabilities 0..1.*meaning: logits",
        ),
        ({"segmentation": {"classes": ["a"]}}, r"the shape \[1, 1, h, w\], for 1 classes"),
        ({"segmentation": {"classes": "nowhere"}}, "there is no label set 'nowhere'"),
    ],
)
def test_nothing_is_written_of_a_wrong_description(
    tmp_path: Path, description: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_convolution(tmp_path / "net.onnx", 1)
    (tmp_path / "model.onnx").write_text("the file from before")

    assert main(words_of(tmp_path, description)) == 2

    error = capsys.readouterr().err
    assert re.match(f"error: .*{sentence}.*\n$", error), error
    assert (tmp_path / "model.onnx").read_text() == "the file from before"
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "net.yaml", "model.onnx"}


def test_scores_must_be_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = np.full((1, 9, 4), 7, np.float32)
    save_network(tmp_path / "net.onnx", {"boxes": np.ones((1, 9, 4), np.float32), "scores": scores})

    assert main(words_of(tmp_path, {"detection": {"kind": "boxes_scores", "classes": NAMES}})) == 2
    assert "expected scores 0..1 of the boxes, got 7 to 7" in capsys.readouterr().err


def test_a_draft_is_printed_and_the_rest_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_convolution(tmp_path / "net.onnx", 1)

    assert main(["adopt", str(tmp_path / "net.onnx"), "--suggest"]) == 0
    assert "segmentation" in yaml.safe_load(capsys.readouterr().out)
    assert main(["adopt", str(tmp_path / "net.onnx")]) == 2
    assert "--suggest prints a draft" in capsys.readouterr().err


def test_the_contract_holds_the_description(tmp_path: Path) -> None:
    save_convolution(tmp_path / "net.onnx", 1)
    description = {"input": {"divide": 255.0}, "segmentation": {"classes": NAMES, "ignored": ["sky"]}}

    properties = {entry.key: entry.value for entry in onnx.load(str(adopt(tmp_path, description))).metadata_props}

    contract = json.loads(properties[CONTRACT_KEY])
    assert contract["provenance"]["description"] == description
    assert [info["id"] for info in contract["class_map"]["classes"]] == [0, 1, 3]


def test_adopted_files_are_evaluated(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples", 2, (192, 128), 1, 1)
    save_convolution(tmp_path / "net.onnx", "n", channels=11)
    adopted = adopt(tmp_path, {"input": {"divide": 255}, "segmentation": {"classes": "camvid11"}})

    figures = tmp_path / "figures.json"
    assert main(["evaluate", str(adopted), str(tmp_path / "samples"), "--json", str(figures)]) == 0

    assert "miou" in figures.read_text()
