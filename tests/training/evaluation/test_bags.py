"""Test the scores of models on bags: with labels of teachers, without labels, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from checkout import ROOT
from labelled_by_a_file import dim
from small_bag import START_NS, write_small_bag
from tiny_student import CONTRACT, write_tiny_model

from ros_kd_perception.bags.reader import BagWriter, message_class
from ros_kd_perception.structures import Detections
from training.__main__ import main
from training.data.readers.bag import BagSource
from training.data.readers.registry import open_source
from training.errors import RecipeError
from training.evaluation.agreement import AgreementCounts, same_boxes
from training.evaluation.class_places import ClassPlaces

FRAMES = 6
STUDENT = ROOT / "models" / "student_plain.onnx"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, a bag of one camera and one of two."""
    folder = tmp_path_factory.mktemp("bags")
    write_tiny_model(folder / "right.onnx", CONTRACT)
    write_tiny_model(folder / "dim.onnx", CONTRACT, dim)
    write_small_bag(folder / "one.mcap", cameras=("front",), frames=FRAMES)
    write_small_bag(folder / "two.mcap", cameras=("front", "left"), frames=2)
    # Teachers look at frames as they are, so one of the size of the student's input sees what the student sees.
    write_small_bag(folder / "sharp.mcap", cameras=("front",), frames=FRAMES, size=(384, 640))
    listed = {"label_set": "camvid11", "teachers": [{"kind": "checkpoint", "path": str(STUDENT)}]}
    (folder / "teachers.yaml").write_text(yaml.safe_dump(listed))
    return folder


def evaluated(place: Path, *words: str, status: int = 0) -> Any:
    out = place / "found.json"
    out.unlink(missing_ok=True)
    paths = [str(place / word) if (place / word).exists() else word for word in words]
    assert main(["evaluate", *paths, "--threads", "1", "--no-memory", "--json", str(out)]) == status
    return json.loads(out.read_text()) if out.exists() else None


def test_without_labels_models_are_compared_with_the_first(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "same.onnx").write_bytes((place / "right.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)

    found = evaluated(place, "right.onnx", "same.onnx", "dim.onnx", "one.mcap")

    right, same, darker = found["models"]
    assert (found["frames"], found["labels"], right["agreement"]) == (FRAMES, None, None)
    assert {same["agreement"][name]["value"] for name in ("same_pixels", "miou", "same_boxes")} == {1.0}
    pixels = darker["agreement"]["same_pixels"]
    assert 0 < pixels["low"] <= pixels["value"] <= pixels["high"] < 1
    assert 0 < darker["agreement"]["miou"]["value"] < 1
    assert 0 < darker["agreement"]["same_boxes"]["value"] < 1
    assert right["boxes_a_frame"] > 0
    printed = capsys.readouterr().out
    assert "not which one is right" in printed
    assert "pixels of the same class" in printed


def test_without_labels_whole_drives_are_drawn_if_they_are_asked_for(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = evaluated(place, "right.onnx", "dim.onnx", "one.mcap", "--drawn", "drives")["models"][1]["agreement"]
    for name in ("same_pixels", "miou", "same_boxes"):
        assert found[name]["value"] is not None
        assert found[name]["low"] is None, "all frames are of one drive"


def test_a_folder_of_images_is_compared_like_a_bag(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), cv2.resize(coarse, (320, 180)))
    folder = (str(tmp_path), "--kind", "unlabeled")

    found = evaluated(place, "right.onnx", "dim.onnx", *folder)

    assert (found["frames"], found["labels"]) == (3, None)
    assert 0 < found["models"][1]["agreement"]["same_pixels"]["value"] < 1
    for words, said in (
        (("right.onnx", *folder), "no labels to score a model on; name a second model"),
        (("right.onnx", "dim.onnx", *folder, "--at-least", "miou=0.5"), "need labels; draw what differs with compare"),
        (("right.onnx", "dim.onnx", *folder, "--teachers", "t.yaml"), "--teachers and --topics are for bags"),
    ):
        evaluated(place, *words, status=2)
        assert said in capsys.readouterr().err


def test_teachers_label_the_frames_once(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (str(STUDENT), "dim.onnx", "sharp.mcap", "--teachers", str(place / "teachers.yaml"), "--limit", "5")

    found = evaluated(place, *words)

    taught, other = found["models"]
    assert taught["frames"] == 5
    assert taught["labels"] == "camvid11 by teachers"
    assert "teachers.yaml is sure of" in taught["boxes"]
    assert taught["miou"] > 0.9, "the teacher is the model itself"
    assert other["miou"] < 0.5
    (folder,) = (tmp_path / "out" / "frames").iterdir()
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert (folder / "label_set.yaml").is_file()

    assert evaluated(place, *words)["models"][0]["miou"] == taught["miou"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == written
    capsys.readouterr()


def test_one_of_several_cameras_is_chosen(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated(place, "right.onnx", "dim.onnx", "two.mcap", status=2)
    assert "expected one camera, or topics that say which, found /front/image_raw, /left/" in capsys.readouterr().err

    found = evaluated(place, "right.onnx", "dim.onnx", "two.mcap", "--topics", "/left/image_raw")
    assert found["frames"] == 2
    assert found["models"][1]["agreement"]["miou"]["low"] is None, "fewer than five frames have no interval"


def test_bags_that_cannot_be_scored_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with BagWriter(tmp_path / "blind.mcap") as writer:
        writer.write("/note", START_NS, message_class("std_msgs/msg/String")(data="no camera"))
    with BagWriter(tmp_path / "empty.mcap"):
        pass
    two = ("right.onnx", "dim.onnx")
    for words, said in (
        ((*two, str(tmp_path / "blind.mcap")), "expected a topic of Image or CompressedImage in"),
        ((*two, str(tmp_path / "empty.mcap")), "expected messages in"),
        ((*two, str(tmp_path / "gone.mcap")), "found nothing; give a .mcap or .db3 file"),
        ((*two, "one.mcap", "--topics", "/rear"), "/rear"),
        (("right.onnx", "one.mcap"), "name teachers (--teachers FILE.yaml), or a second model"),
        ((*two, "one.mcap", "--at-least", "miou=0.5"), "need labels; name teachers"),
        ((*two, "one.mcap", "--teachers", str(tmp_path / "gone.yaml")), "gone.yaml"),
    ):
        evaluated(place, *words, status=2)
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "nothing is taken out of them"


@pytest.mark.parametrize(
    ("files", "is_a_bag"),
    [
        (["metadata.yaml", "drive_0.db3"], True),
        (["drive_0.mcap"], True),
        (["drive_0.db3.zstd"], True),
        (["images/000.png", "drive_0.mcap"], False),
        (["left/000.png"], False),
    ],
)
def test_a_folder_is_a_bag_by_its_files(tmp_path: Path, files: list[str], is_a_bag: bool) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert BagSource.recognizes(tmp_path) == is_a_bag


def test_training_does_not_drop_teachers_of_a_bag_in_silence(place: Path) -> None:
    with pytest.raises(RecipeError, match="are for evaluate and report; name them under distillation"):
        open_source(BagSource(folder=place / "one.mcap", teachers=place / "teachers.yaml"))


def test_each_box_has_one_partner_at_most() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], np.float32)
    three = Detections(boxes, np.ones(3, np.float32), np.array([0, 0, 1], np.int32))
    one = Detections(boxes[:1], np.ones(1, np.float32), np.array([0], np.int32))
    none = Detections(boxes[:0], np.ones(0, np.float32), np.zeros(0, np.int32))

    assert same_boxes(three, ["car", "sign"], one, ["car"]) == 1
    assert same_boxes(three, ["car", "sign"], three, ["car", "sign"]) == 3
    assert same_boxes(three, ["car", "sign"], three, ["sign", "car"]) == 0
    assert same_boxes(three, ["car", "sign"], none, ["car"]) == 0


def test_classes_are_compared_by_name() -> None:
    named = CONTRACT.segmentation_classes
    assert CONTRACT.class_map is not None
    turned = tuple(replace(info, id=len(named) - 1 - info.id) for info in named)
    other = replace(CONTRACT, class_map=replace(CONTRACT.class_map, classes=turned), detections=None)

    counts = AgreementCounts(ClassPlaces(CONTRACT), ClassPlaces(other))

    assert counts.figures().same_pixels is None, "no frame was seen"
    assert counts.figures().same_boxes is None
