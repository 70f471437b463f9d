"""KITTI: tiny folders in the layout of its object and its semantic benchmark."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkout import ROOT

from training.data.readers.frame_folder import FrameFolder
from training.data.readers.kitti import KittiSemanticsSource, KittiSource
from training.data.readers.registry import BY_KIND, open_source, recognize
from training.errors import DataError
from training.label_sets.loading import load_label_set

REST = "1.65 1.67 3.81 -3.18 1.79 12.20 -1.60"
LINES = f"""Car 0.00 0 -1.35 10.5 8.25 30 28 {REST}
Van 0.50 1 -1.35 40 2 90.75 30 {REST}
Cyclist 0.00 0 -1.35 2 2 8 20 {REST}
Misc 0.00 0 -1.35 60 5 70 15 {REST}
DontCare -1 -1 -10 0 0 12 6 -1 -1 -1 -1000 -1000 -1000 -10
"""
CAMVID = load_label_set("camvid11")
IDS = {info.name: info.id for info in CAMVID.detection}
REAL = ROOT.parent / "shared" / "frames" / "kitti"


def write_images(folder: Path, names: tuple[str, ...] = ("000000", "000001")) -> None:
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / f"{name}.png"), np.full((32, 80, 3), 90, np.uint8))


def write_objects(folder: Path, labels: dict[str, str], images: str = "image_2", texts: str = "label_2") -> None:
    write_images(folder / images, tuple(labels))
    (folder / texts).mkdir()
    for name, text in labels.items():
        (folder / texts / f"{name}.txt").write_text(text)


def opened(folder: Path, **keys: object) -> FrameFolder:
    return open_source(KittiSource(folder=folder, **keys), CAMVID)


def test_types_become_classes_and_dont_care_a_region_for_every_class(tmp_path: Path):
    write_objects(tmp_path / "training", {"000000": LINES, "000001": ""})
    (tmp_path / "training" / "calib").mkdir()
    frames = opened(tmp_path, box_weight=0.5)
    busy, empty = frames[0], frames[1]
    found = sorted(zip(busy.labels.tolist(), busy.boxes_xyxy.tolist(), strict=True))
    assert found == [
        (IDS["car"], [10.5, 8.25, 30, 28]),
        (IDS["car"], [40, 2, 80, 30]),  # clipped to the image
        (IDS["bicyclist"], [2, 2, 8, 20]),
    ]
    assert sorted(busy.ignored_xyxy.tolist()) == [[0, 0, 12, 6], [60, 5, 70, 15]]
    assert busy.ignored_labels.tolist() == [-1, -1]
    assert busy.labeled_boxes.tolist() == [True, True, True, False], "KITTI has no signs"
    assert (busy.mask == 255).all()
    assert not busy.labeled_pixels.any()
    assert (busy.has_boxes, busy.box_weight) == (True, 0.5)
    assert (empty.has_boxes, len(empty.labels)) == (True, 0)


@pytest.mark.parametrize(
    ("images", "texts", "part"),
    [("image_2", "label_2", "training"), ("image_2", "label_2", "."), ("images", "labels", ".")],
)
def test_layouts(tmp_path: Path, images: str, texts: str, part: str):
    write_objects(tmp_path / part, {"000007": LINES}, images, texts)
    frames = opened(tmp_path)
    assert (frames.names, frames.counts.boxes["car"]) == (["000007"], 2)
    assert frames.label_files("000007") == [tmp_path / part / texts / "000007.txt"]
    assert recognize(tmp_path) == ("kitti" if texts == "label_2" else "rendered")


def test_the_split_without_labels_says_nothing_about_objects(tmp_path: Path):
    write_images(tmp_path / "testing" / "image_2")
    sample = opened(tmp_path, split="testing")[0]
    assert (sample.has_boxes, sample.labeled_boxes.any()) == (False, False)


def test_a_student_of_other_classes_gets_its_own(tmp_path: Path):
    write_objects(tmp_path / "training", {"000000": LINES})
    student = load_label_set("coco_driving")
    sample = open_source(KittiSource(folder=tmp_path), student)[0]
    assert {student.detection_classes[label].name for label in sample.labels} == {"car"}
    labeled = {info.name for info, is_known in zip(student.detection, sample.labeled_boxes, strict=True) if is_known}
    assert labeled == {"person", "car", "truck"}
    assert len(sample.ignored_labels) == 3, "the cyclist is neither a person nor nothing"


def test_every_wrong_line_of_every_file_is_named(tmp_path: Path):
    write_objects(
        tmp_path,
        {
            "000000": LINES,
            "000001": f"Car 0 0 0 1 2 3 4 {REST}\nCar 0 0 0 1 2\nLorry 0 0 0 1 2 3 4 {REST}",
            "000002": f"Car 0 0 0 9 2 3 4 {REST}\nCar 0 0 0 1 2 nan 4 {REST}\nCar 0 0 0 1 2 x 4 {REST}",
        },
    )
    (tmp_path / "label_2" / "000000.txt").unlink()
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    first, second, third = str(error.value).splitlines()
    assert re.search(r"000000.txt: expected a text file, there is no such file; add it, or leave its frame out", first)
    assert re.search(r"000001.txt: line 2: expected 15 columns .* got 6", second)
    assert re.search(r"line 3: expected a type of the label set kitti \(Car, Van, .*DontCare, got 'Lorry'", second)
    assert re.search(r"000002.txt: line 1: expected left, top, right and bottom of a box, got 9 2 3 4", third)
    assert "line 2: expected finite numbers" in third
    assert "line 3: expected numbers" in third


def test_missing_folders_are_named_with_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match="expected a folder with"):
        opened(tmp_path)
    write_images(tmp_path / "training" / "image_2")
    with pytest.raises(DataError, match=r"expected label_2/ beside image_2/.* set split: testing"):
        opened(tmp_path)


def write_semantics(folder: Path) -> None:
    """A frame with road (7), two cars (26) that touch, and persons (24) that are not told apart."""
    write_images(folder / "image_2", ("000000_10",))
    instance = np.full((32, 80), 7 * 256, np.uint16)
    instance[10:20, 5:15] = 26 * 256 + 1
    instance[10:20, 15:30] = 26 * 256 + 2
    instance[2:8, 60:64] = 24 * 256
    instance[30:] = 255 * 256  # a license plate has no id
    for part in ("semantic", "instance", "semantic_rgb"):
        (folder / part).mkdir()
    cv2.imwrite(str(folder / "semantic" / "000000_10.png"), (instance >> 8).astype(np.uint8))
    cv2.imwrite(str(folder / "instance" / "000000_10.png"), instance)


def test_semantics_has_masks_of_cityscapes_and_boxes_of_its_instances(tmp_path: Path):
    write_semantics(tmp_path / "training")
    student = load_label_set("cityscapes19")
    source = KittiSemanticsSource(folder=tmp_path)
    sample = open_source(source, student)[0]
    names = {info.id: info.name for info in student.segmentation}
    assert {names[value] for value in np.unique(sample.mask) if value != 255} == {"road", "car", "person"}
    assert (sample.mask[30:] == 255).all()
    boxes = {info.id: info.name for info in student.detection}
    assert [(boxes[label], box) for label, box in zip(sample.labels, sample.boxes_xyxy.tolist(), strict=True)] == [
        ("car", [5, 10, 15, 20]),
        ("car", [15, 10, 30, 20]),
    ]
    assert sample.ignored_xyxy.tolist() == [[60, 2, 64, 8]]
    assert boxes[int(sample.ignored_labels[0])] == "person"
    assert (recognize(tmp_path), BY_KIND["kitti_semantics"].exact_boxes) == ("kitti_semantics", True)


def test_semantics_without_instances_knows_no_objects(tmp_path: Path):
    write_semantics(tmp_path)
    (tmp_path / "instance" / "000000_10.png").unlink()
    (tmp_path / "instance").rmdir()
    sample = open_source(KittiSemanticsSource(folder=tmp_path), load_label_set("cityscapes19"))[0]
    assert not sample.has_boxes
    assert sample.labeled_pixels.any()


def test_broken_semantics_are_named(tmp_path: Path):
    write_semantics(tmp_path)
    cv2.imwrite(str(tmp_path / "instance" / "000000_10.png"), np.zeros((50, 60), np.uint16))
    with pytest.raises(DataError, match=r"instance/000000_10.png: expected height and width \(32, 80\)"):
        open_source(KittiSemanticsSource(folder=tmp_path))
    (tmp_path / "semantic" / "000000_10.png").unlink()
    with pytest.raises(DataError, match=r"semantic/000000_10.png"):
        open_source(KittiSemanticsSource(folder=tmp_path))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"KITTI frames are not at {REAL}: its reader is NOT tested on them")
def test_real_frames_have_the_objects_that_their_files_list():
    frames = opened(REAL, limit=20)
    lines = [line.split()[0] for name in frames.names for line in (REAL / "labels" / f"{name}.txt").open()]
    vehicles = sum(lines.count(kind) for kind in ("Car", "Van", "Truck", "Tram"))
    persons = sum(lines.count(kind) for kind in ("Pedestrian", "Person_sitting"))
    assert frames.counts.boxes == {
        "car": vehicles,
        "pedestrian": persons,
        "bicyclist": lines.count("Cyclist"),
        "sign": 0,
    }
    assert sum(len(frames[index].ignored_labels) for index in range(20)) == lines.count("DontCare") + lines.count(
        "Misc"
    )
