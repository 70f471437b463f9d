"""`evaluate` on labels of another label set than the model's, and on models of one task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import yaml
from checkout import ROOT
from foreign_networks import save_network
from onnx import helper, numpy_helper

from training.__main__ import main

HEIGHT, WIDTH = 64, 96
STUDENT = ROOT / "models" / "student.onnx"


def write_image(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def evaluate(model: Path, data: Path, out: Path, *options: str) -> dict[str, Any]:
    words = [str(model), str(data), "--threads", "1", "--json", str(out), *options]
    assert main(["evaluate", *words]) == 0
    results: dict[str, Any] = json.loads(out.read_text())
    return results


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """One frame in the layout of Cityscapes: road and terrain, a wall, and a car in front of it."""
    train_ids = np.full((HEIGHT, WIDTH), 0, np.uint8)
    train_ids[:20], train_ids[60:], train_ids[10:30, 10:40] = 3, 9, 13
    label_ids = np.full((HEIGHT, WIDTH), 7, np.uint8)
    label_ids[:20], label_ids[60:], label_ids[10:30, 10:40] = 12, 22, 26
    frame, root = "aachen_000000_000019", tmp_path / "cityscapes"
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    write_image(root / "leftImg8bit" / "train" / "aachen" / f"{frame}_leftImg8bit.png", image)
    labels = root / "gtFine" / "train" / "aachen"
    write_image(labels / f"{frame}_gtFine_labelTrainIds.png", train_ids)
    write_image(labels / f"{frame}_gtFine_labelIds.png", label_ids)
    car = {"label": "car", "polygon": [[10, 10], [39, 10], [39, 29], [10, 29]]}
    content = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": [car]}
    (labels / f"{frame}_gtFine_polygons.json").write_text(json.dumps(content))
    return root


def test_labels_of_another_set_are_scored_by_name(
    cityscapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_default = evaluate(STUDENT, cityscapes, tmp_path / "0.json")
    printed = capsys.readouterr().out
    named = evaluate(STUDENT, cityscapes, tmp_path / "1.json", "--labels", "cityscapes19")
    (tmp_path / "map.yaml").write_text("segmentation: {road: ignore, wall: ignore}\ndetection: {car: ignore}")
    words = ["--labels", "cityscapes19", "--map", str(tmp_path / "map.yaml")]
    mapped = evaluate(STUDENT, cityscapes, tmp_path / "2.json", *words)

    assert [found["labels"] for found in (by_default, named, mapped)] == ["cityscapes", "cityscapes19", "cityscapes19"]
    assert by_default["iou"] == named["iou"]
    assert by_default["iou"]["car"] is not None
    # Cityscapes has boxes of no signs, and terrain is no class of the student.
    assert by_default["not_scored"]["detection"]["model"] == ["sign"]
    assert by_default["detection"]["per_class"]["sign"] == {"ap": None, "ap50": None, "boxes": 0}
    assert by_default["detection"]["per_class"]["car"]["boxes"] == 1
    assert "terrain" in by_default["not_scored"]["segmentation"]["labels"]
    assert "not scored, the labels do not have: boxes of sign" in printed
    assert mapped["iou"]["road"] is None
    assert mapped["not_scored"]["segmentation"]["model"] == ["road"]
    assert mapped["detection"]["per_class"]["car"]["ap"] is None


def test_another_split_is_scored(cityscapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("leftImg8bit", "gtFine"):
        (cityscapes / part / "train").rename(cityscapes / part / "val")
    found = evaluate(STUDENT, cityscapes, tmp_path / "0.json", "--source", "split=val")
    assert found["frames"] == 1
    assert main(["evaluate", str(STUDENT), str(cityscapes), "--source", "split"]) == 2
    assert "--source needs key=value" in capsys.readouterr().err


def test_a_map_that_names_unknown_classes_is_refused(
    cityscapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.yaml").write_text("segmentation: {lane: road}")
    assert main(["evaluate", str(STUDENT), str(cityscapes), "--map", str(tmp_path / "map.yaml")]) == 2
    assert "the table names lane, which the first set lacks" in capsys.readouterr().err


def adopt(folder: Path, description: dict[str, Any]) -> Path:
    (folder / "net.yaml").write_text(yaml.safe_dump(description))
    model = folder / "model.onnx"
    words = [str(folder / "net.onnx"), "--describe", str(folder / "net.yaml"), "-o", str(model)]
    assert main(["adopt", *words]) == 0
    return model


def test_an_adopted_detector_is_scored_without_its_duplicates(
    cityscapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.zeros((1, 7, 126), np.float32)
    # The car, twice, and nothing else; the frame has the size of the input.
    rows[0, :4, 0], rows[0, :4, 1] = (25, 20, 30, 20), (26, 20, 30, 20)
    rows[0, 4:, 0], rows[0, 4:, 1] = (0, 0.9, 0), (0, 0.8, 0)
    save_network(tmp_path / "net.onnx", {"output0": rows})
    names = ["tram", "car", "person"]
    model = adopt(tmp_path, {"detection": {"kind": "yolov8", "classes": names, "ignored": ["tram"]}})
    table = {"detection": {"rider": "person", "train": "ignore", "trailer": "ignore", "motorcycle": "ignore"}}
    table["detection"] |= dict.fromkeys(("truck", "bus", "caravan"), "car") | {"bicycle": "ignore"}
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(table))

    options = ["--map", str(tmp_path / "map.yaml"), "--pictures", str(tmp_path / "pictures")]
    found = evaluate(model, cityscapes, tmp_path / "found.json", *options)

    assert "miou" not in found
    assert found["detection"]["per_class"]["car"] == {"ap": pytest.approx(1), "ap50": pytest.approx(1), "boxes": 1}
    assert found["detection"]["detections"] == 1
    assert list(found["not_scored"]) == ["detection"]
    assert "mIoU" not in capsys.readouterr().out
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def save_brightness_segmentation(path: Path) -> None:
    """Save a network of three classes: 0 never, 1 where the first channel is bright, 2 where it is dark."""
    weights = np.zeros((3, 3, 1, 1), np.float32)
    weights[1, 0], weights[2, 0] = 1, -1
    constants = {"weights": weights, "offsets": np.array([-1000, 0, 200], np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weights", "offsets"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", 1, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("y", 1, [1, 3, HEIGHT, WIDTH])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))


def test_an_adopted_segmentation_that_stretches_is_scored_with_gaps_between_its_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_brightness_segmentation(tmp_path / "net.onnx")
    classes = ["sea", "sky", "ground"]
    model = adopt(tmp_path, {"input": {"resize": "stretch"}, "segmentation": {"classes": classes, "ignored": ["sea"]}})
    image = np.full((100, 300, 3), 10, np.uint8)
    image[:50] = 240
    mask = np.full((100, 300), 7, np.uint8)
    mask[:50] = 5
    write_image(tmp_path / "frames" / "images" / "a.png", image)
    write_image(tmp_path / "frames" / "masks" / "a.png", mask)
    content = {"name": "mine", "segmentation": [{"id": 5, "name": "heaven"}, {"id": 7, "name": "ground"}]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "map.yaml").write_text("segmentation: {heaven: sky}")

    options = ["--labels", str(tmp_path / "mine.yaml"), "--map", str(tmp_path / "map.yaml")]
    found = evaluate(model, tmp_path / "frames", tmp_path / "o.json", *options, "--pictures", str(tmp_path / "seen"))

    assert found["iou"] == {"sky": pytest.approx(1), "ground": pytest.approx(1)}
    assert "detection" not in found
    assert found["multiply_accumulates"] == 3 * 3 * HEIGHT * WIDTH
    printed = capsys.readouterr().out
    assert "AP50" not in printed
    assert "not scored" not in printed
    seen, labels = np.hsplit(cv2.imread(str(tmp_path / "seen" / "a.jpg"))[:, [*range(300), *range(304, 604)]], 2)
    assert np.abs(seen.astype(int) - labels).mean() < 3
