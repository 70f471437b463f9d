"""Test that frames are labelled by real teachers that a file names."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from foreign_networks import save_network
from small_bag import write_small_bag

from training.__main__ import main
from training.checkpoint import CheckpointInfo, digest_of_weights
from training.data.image_files import read_image
from training.label_sets.loading import load_label_set
from training.networks.student import build_student
from training.teachers.teachers_file import open_labeler
from training.weights_file import write_weights

STUDENT = load_label_set("camvid11")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that names a network of ours with random weights."""
    folder = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    network = build_student("n", len(STUDENT.segmentation), len(STUDENT.detection)).eval()
    info = CheckpointInfo("n", "", "", "", 1, "", {}, label_set=STUDENT.model_dump(mode="json"))
    weights = folder / "teacher.safetensors"
    write_weights(weights, network.state_dict(), asdict(info), digest_of_weights(network))
    path = folder / "teachers.yaml"
    path.write_text(
        f"label_set: camvid11\nteachers:\n  - {{kind: checkpoint, path: {weights}, pixel_confidence_min: 0.0}}\n"
    )
    return path


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", cameras=("front",), frames=3)


def test_frames_come_with_what_the_teachers_say(teachers: Path, bag: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    assert main(["extract-frames", str(bag), "-o", str(folder), "--teachers", str(teachers)]) == 0
    labeler = open_labeler(teachers)
    entries = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    assert len(entries) == 3
    for name, entry in entries.items():
        said = labeler(read_image(folder / "images" / f"{name}.jpg"))
        assert said.mask is not None
        assert (cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED) == said.mask).all()
        assert entry["labels"] == [*said.labels.tolist(), *said.ignored_labels.tolist()]
    assert load_label_set(folder / "label_set.yaml").tasks == ("segmentation", "detection")


def test_the_digest_follows_teachers_and_settings(teachers: Path, tmp_path: Path) -> None:
    first = open_labeler(teachers).sha256
    assert open_labeler(teachers).sha256 == first
    sure = tmp_path / "sure.yaml"
    sure.write_text(teachers.read_text().replace("pixel_confidence_min: 0.0", "box_sure: 0.9"))
    assert open_labeler(sure).sha256 != first


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("label_set: camvid11\n", "teachers"),
        ("label_set: camvid11\nteachers: []\n", "teachers"),
        ("label_set: camvid11\nteachers: [{kind: checkpoint, path: nowhere.ckpt}]\n", "nowhere.ckpt"),
        ("label_set: none\nteachers: [{kind: checkpoint, path: nowhere.ckpt}]\n", "there is no label set 'none'"),
    ],
)
def test_a_wrong_file_is_refused_and_leaves_nothing(
    text: str, sentence: str, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "teachers.yaml"
    path.write_text(text)
    assert main(["extract-frames", str(bag), "-o", str(tmp_path / "frames"), "--teachers", str(path)]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "frames").exists()


def test_classes_that_no_teacher_labels_are_named(
    teachers: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks_only = tmp_path / "masks.yaml"
    fewer = "classes: [sky, car], tasks: [segmentation], pixel_confidence_min"
    masks_only.write_text(teachers.read_text().replace("pixel_confidence_min", fewer))
    for path, sentence in ((teachers, ""), (masks_only, "no teacher labels masks of building, pole, road, pavement")):
        command = ["extract-frames", str(bag), "-o", str(tmp_path / path.stem), "--teachers", str(path)]
        assert main([*command, "--max-frames", "1"]) == 0
        said = capsys.readouterr().out
        assert sentence in said
        assert ("no teacher labels" in said) == bool(sentence)
    assert "boxes of all classes" in said


def test_a_teacher_that_fails_at_the_first_frame_leaves_nothing(
    teachers: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.yaml"
    described = tmp_path / "boxes.yaml"
    described.write_text("detection: {kind: boxes_scores, corners: xyxy, nms_iou: null, classes: [car, pedestrian]}")
    arrays = {"boxes": np.array([[[10, 5, 30, 25]]], np.float32), "scores": np.array([[[5.0, 0.0]]], np.float32)}
    network = save_network(tmp_path / "net.onnx", arrays)
    wrong.write_text(f"label_set: camvid11\nteachers:\n  - {{kind: onnx, path: {network}, describe: {described}}}\n")
    command = ["extract-frames", str(bag), "-o", str(tmp_path / "frames"), "--max-frames", "1", "--teachers"]
    assert main([*command, str(wrong)]) == 2
    assert "net.onnx: expected scores from 0 to 1" in capsys.readouterr().err
    assert not (tmp_path / "frames").exists()
    assert main([*command, str(teachers)]) == 0
