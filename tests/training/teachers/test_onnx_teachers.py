"""Teachers from ONNX files: boxes come back to the pixels of the image, and YOLOX finds what it is known for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from checkout import ROOT
from foreign_networks import save_network
from label_sets import CAMVID
from torch import Tensor

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.letterbox import letterbox
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.model.onnx_runtime import onnxruntime
from training.errors import RecipeError
from training.label_sets.loading import load_label_set
from training.teachers.ensemble import Ensemble
from training.teachers.labeling import FrameLabeler
from training.teachers.onnx_file import OnnxTeacher
from training.teachers.seen import Seen
from training.teachers.settings import FusionSettings
from training.teachers.teachers_file import open_labeler

SHARED = ROOT.parent / "shared"
YOLOX, KITTI = SHARED / "teachers" / "yolox_nano_416_coco.onnx", SHARED / "frames" / "kitti" / "images"
STREETS = ROOT / "training" / "teachers" / "streets.yaml"
DESCRIPTION = STREETS.with_name("yolox_coco.yaml")
needs_yolox = pytest.mark.skipif(
    not (YOLOX.is_file() and KITTI.is_dir()), reason=f"the shared teacher or frames are not at {SHARED}"
)


def opened(path: Path, description: str, **keys: Any) -> Ensemble:
    describe = path.with_suffix(".yaml")
    describe.write_text(description, encoding="utf-8")
    return of_files(path, describe, **keys)


def of_files(path: Path, describe: Path, student: str = "camvid11", **keys: Any) -> Ensemble:
    content = {"kind": "onnx", "path": str(path), "describe": str(describe), **keys}
    return Ensemble.open([OnnxTeacher.checked(content)], FusionSettings(), load_label_set(student))


def look(ensemble: Ensemble, images: Tensor) -> Seen:
    return ensemble.members[0].teacher(images)


BOXES = "detection: {kind: boxes_scores, corners: xyxy, nms_iou: null, classes: [car, pedestrian]}"


@pytest.mark.parametrize(("resize", "expected"), [("letterbox", [20, 10, 60, 50]), ("stretch", [20, 20, 60, 100])])
def test_boxes_are_in_pixels_of_the_image(resize: str, expected: list[float], tmp_path: Path) -> None:
    height, width = 64, 96
    arrays = {
        "boxes": np.array([[[10, 5, 30, 25], [0, 0, 4, 4]]], np.float32),
        "scores": np.array([[[0.2, 0.9], [0.005, 0.0]]], np.float32),
    }
    path = save_network(tmp_path / "net.onnx", arrays)
    ensemble = opened(path, f"input: {{resize: {resize}, height: {height}, width: {width}}}\n{BOXES}")

    tall = torch.zeros(1, 3, 256, 192, dtype=torch.uint8) if resize == "stretch" else torch.zeros(1, 3, 120, 192)
    (found,) = look(ensemble, tall.to(torch.uint8)).boxes or []

    rows = dict(zip(found.ids.tolist(), found.xyxy.tolist(), strict=True))
    assert rows[1] == pytest.approx(expected)
    assert sorted(found.scores.tolist()) == pytest.approx([0.2, 0.9])


def test_a_file_that_is_not_as_described_is_refused_with_its_place(tmp_path: Path) -> None:
    path = save_network(tmp_path / "net.onnx", {"boxes": np.zeros((1, 2, 4), np.float32)})
    with pytest.raises(ModelFileError, match=r"^teachers.0: .*net.onnx: expected"):
        opened(path, f"input: {{height: 64, width: 96}}\n{BOXES}")
    with pytest.raises(ModelFileError, match=r"^teachers.0: .*none.onnx: expected an ONNX file, there is no such file"):
        opened(tmp_path / "none.onnx", BOXES)
    with pytest.raises(RecipeError, match=r"^teachers.0: .*net.yaml: unknown key detection.corner;"):
        opened(path, BOXES.replace("corners", "corner"))


@pytest.mark.parametrize(("value", "found"), [(np.nan, "nan to nan"), (5.0, "0 to 5")])
def test_scores_that_are_none_are_refused_with_the_file(value: float, found: str, tmp_path: Path) -> None:
    arrays = {
        "boxes": np.array([[[10, 5, 30, 25]]], np.float32),
        "scores": np.array([[[value, 0.0]]], np.float32),
    }
    path = save_network(tmp_path / "net.onnx", arrays)
    ensemble = opened(path, f"input: {{height: 64, width: 96}}\n{BOXES}")
    with pytest.raises(ModelFileError, match=rf"net.onnx: expected scores from 0 to 1 by its description, got {found}"):
        look(ensemble, torch.zeros(1, 3, 64, 96, dtype=torch.uint8))


@needs_yolox
def test_yolox_says_what_its_own_decoding_says() -> None:
    image = cv2.imread(str(sorted(KITTI.iterdir())[3]))
    (found,) = look(of_files(YOLOX, DESCRIPTION), torch.from_numpy(image.transpose(2, 0, 1))[None]).boxes or []

    pixels = np.empty((416, 416, 3), np.uint8)
    geometry = letterbox(image, pixels, 114)
    session = onnxruntime.InferenceSession(str(YOLOX), providers=["CPUExecutionProvider"])
    (rows,) = session.run(None, {"images": pixels.transpose(2, 0, 1)[None].astype(np.float32)})[0]
    expected = []
    index = 0
    for stride in (8, 16, 32):
        for row in range(416 // stride):
            for column in range(416 // stride):
                x, y, w, h, objectness, *classes = rows[index].tolist()
                index += 1
                score = objectness * max(classes)
                if score >= 0.3:
                    x, y, w, h = (x + column) * stride, (y + row) * stride, np.exp(w) * stride, np.exp(h) * stride
                    scale = image.shape[1] / geometry.placed_width, image.shape[0] / geometry.placed_height
                    corners = [
                        (x - w / 2) * scale[0],
                        (y - h / 2) * scale[1],
                        (x + w / 2) * scale[0],
                        (y + h / 2) * scale[1],
                    ]
                    limits = [image.shape[1], image.shape[0]] * 2
                    clipped = [min(max(side, 0), limit) for side, limit in zip(corners, limits, strict=True)]
                    expected.append((classes.index(max(classes)), score, clipped))
    kept = found[found.scores >= 0.3]
    expected.sort(key=lambda each: -each[1])
    assert len(expected) >= 3
    assert kept.ids.tolist() == [each[0] for each in expected]
    torch.testing.assert_close(
        kept.scores, torch.tensor([each[1] for each in expected], dtype=torch.float32), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        kept.xyxy, torch.tensor([each[2] for each in expected], dtype=torch.float32), atol=0.05, rtol=0
    )


def test_a_file_lists_the_teachers_that_label_frames(tmp_path: Path) -> None:
    arrays = {"boxes": np.array([[[8, 8, 40, 24]]], np.float32), "scores": np.array([[[0.9, 0.1]]], np.float32)}
    path = save_network(tmp_path / "net.onnx", arrays)
    (tmp_path / "net.yaml").write_text(BOXES, encoding="utf-8")
    listed = tmp_path / "teachers.yaml"
    entry = f"teachers: [{{kind: onnx, path: {path}, describe: {tmp_path / 'net.yaml'}}}]"
    listed.write_text(entry, encoding="utf-8")
    labeler = FrameLabeler.open(listed, CAMVID)
    found = labeler(np.zeros((64, 96, 3), np.uint8))
    assert (found.boxes_xyxy.tolist(), found.labels.tolist(), found.mask) == ([[8, 8, 40, 24]], [0], None)
    listed.write_text(f"{entry}\nfusion: {{boxes: weighted}}", encoding="utf-8")
    assert FrameLabeler.open(listed, CAMVID).sha256 != labeler.sha256
    listed.write_text("teachers: [{kind: keras, path: x}]", encoding="utf-8")
    with pytest.raises(
        RecipeError, match=r"teachers.yaml: teachers.0.kind must be one of checkpoint, onnx, transformers"
    ):
        FrameLabeler.open(listed, CAMVID)


@needs_yolox
def test_the_shipped_teacher_of_streets_finds_the_bicyclist_of_a_frame(tmp_path: Path) -> None:
    text = STREETS.read_text(encoding="utf-8").replace("data/teachers/", f"{YOLOX.parent}/")
    listed = tmp_path / "streets.yaml"
    listed.write_text(text.replace("training/teachers/", f"{STREETS.parent}/"), encoding="utf-8")
    labels = open_labeler(listed)(cv2.imread(str(KITTI / "000076.jpg")))
    bicyclist = [info.id for info in CAMVID.detection if info.name == "bicyclist"]
    chosen = np.isin(labels.labels, bicyclist)
    truth = np.array([[413, 169, 490, 291]], np.float32)  # the Cyclist of labels/000076.txt
    assert iou_xyxy(labels.boxes_xyxy[chosen], truth).max() > 0.5
    assert labels.labeled_boxes.tolist() == [True, True, True, False]


@needs_yolox
def test_tiles_find_more_than_the_whole_image() -> None:
    image = cv2.imread(str(KITTI / "000049.jpg"))
    thresholds = {"box_sure": 0.3, "box_unsure": 0.1}
    whole = FrameLabeler(of_files(YOLOX, DESCRIPTION, **thresholds)).label_frame(image)
    tiles = FrameLabeler(of_files(YOLOX, DESCRIPTION, views={"columns": 3}, **thresholds)).label_frame(image)
    assert len(tiles.boxes_xyxy) > len(whole.boxes_xyxy) > 0
    assert tiles.mask is None
    assert tiles.labeled_boxes.tolist() == [True, True, False, False]
