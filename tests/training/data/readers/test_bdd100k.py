"""BDD100K: tiny folders in its layout, with the rows of both lists of boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from training.data.readers.bdd100k import Bdd100kSource
from training.data.readers.registry import open_source
from training.data.sample import Sample
from training.errors import DataError
from training.label_sets.loading import load_label_set

HEIGHT, WIDTH = 48, 64
FRAMES = ("b1c66a42-6f7d68ca", "b1c81faa-3df17267", "b1cac6a7-04e33135", "b1ceb32e-3f481b43")
NEW, OLD = "labels/det_20/det_{}.json", "labels/bdd100k_labels_images_{}.json"
MASKS = {"segmentation": "labels/sem_seg/masks", "drivable": "labels/drivable/masks"}


def box(x1: float, y1: float, x2: float, y2: float) -> dict[str, float]:
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2}


POLYGON = [{"vertices": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "types": "LLL", "closed": True}]
NEW_LIST: list[dict[str, Any]] = [
    {
        "name": f"{FRAMES[0]}.jpg",
        "attributes": {"weather": "clear"},
        "timestamp": 10000,
        "labels": [
            {"id": "0", "category": "pedestrian", "attributes": {"occluded": False}, "box2d": box(1.5, 2, 9.25, 12)},
            {"id": "1", "category": "bicycle", "box2d": box(20, 20, 30, 30)},
            {"id": "2", "category": "motorcycle", "box2d": box(31, 20, 40, 30)},
            {"id": "3", "category": "car", "attributes": {"crowd": True}, "box2d": box(40, 0, 60, 10)},
            {"id": "4", "category": "other vehicle", "attributes": None, "box2d": box(40, 12, 50, 20)},
            {"id": "5", "category": "traffic sign", "box2d": box(2, 30, 6, 34)},
            {"id": "-1", "category": "rider", "box2d": box(50, 30, 60, 40)},
            {"id": "6", "category": "truck", "box2d": box(55, 40, 70.5, 50)},
        ],
    },
    {"name": f"{FRAMES[1]}.jpg", "labels": []},
    {"name": f"{FRAMES[2]}.jpg", "labels": None},
    {"name": f"{FRAMES[3]}.jpg", "attributes": {"weather": "rainy"}},
]
OLD_LIST: list[dict[str, Any]] = [
    {
        "name": f"{FRAMES[0]}.jpg",
        "attributes": {"weather": "clear", "scene": "city street", "timeofday": "daytime"},
        "timestamp": 10000,
        "labels": [
            {"category": "person", "manualShape": True, "box2d": box(1, 2, 9, 12), "id": 0},
            {"category": "bike", "box2d": box(20, 20, 30, 30), "id": 1},
            {"category": "motor", "box2d": box(31, 20, 40, 30), "id": 2},
            {"category": "drivable area", "attributes": {"areaType": "direct"}, "poly2d": POLYGON, "id": 3},
            {"category": "lane", "attributes": {"laneStyle": "solid"}, "poly2d": POLYGON, "id": 4},
            {"category": "lane", "box2d": None, "id": 5},
        ],
    }
]


def write_bdd(
    root: Path, task: Literal["segmentation", "drivable", "detection"] = "detection", split: str = "train"
) -> Path:
    images = root / "images" / ("10k" if task == "segmentation" else "100k") / split
    images.mkdir(parents=True)
    for frame in FRAMES:
        cv2.imwrite(str(images / f"{frame}.jpg"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        if task in MASKS and split != "test":
            write_mask(root, task, frame, np.array([0, 1, 2, 255], np.uint8).repeat(12))
    return root


def write_mask(root: Path, task: str, frame: str, rows: np.ndarray, split: str = "train") -> Path:
    path = root / MASKS[task] / split / f"{frame}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.tile(rows[:, None], (1, WIDTH)))
    return path


def write_list(root: Path, content: object, place: str = NEW, split: str = "train") -> Path:
    path = root / place.format(split)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def boxes_by_class(sample: Sample, student: str) -> dict[str, list[list[float]]]:
    names = {info.id: info.name for info in load_label_set(student).detection}
    pairs = zip(sample.labels.tolist(), sample.boxes_xyxy.tolist(), strict=True)
    found: dict[str, list[list[float]]] = {}
    for label, corners in pairs:
        found.setdefault(names[label], []).append(corners)
    return found


def ignored_by_class(sample: Sample, student: str) -> list[tuple[str, list[float]]]:
    names = {info.id: info.name for info in load_label_set(student).detection}
    assert sample.ignored_labels is not None
    assert sample.ignored_xyxy is not None
    pairs = zip(sample.ignored_labels.tolist(), sample.ignored_xyxy.tolist(), strict=True)
    return sorted((names.get(label, "every class"), corners) for label, corners in pairs)


def test_boxes_of_2020_have_the_classes_of_the_student(tmp_path: Path) -> None:
    write_list(write_bdd(tmp_path), NEW_LIST)
    folder = open_source(Bdd100kSource(folder=tmp_path, task="detection"), load_label_set("cityscapes19"))
    assert folder.names == list(FRAMES)
    assert boxes_by_class(folder[0], "cityscapes19") == {
        "person": [[1.5, 2, 9.25, 12]],
        "bicycle": [[20, 20, 30, 30]],
        "motorcycle": [[31, 20, 40, 30]],
        "truck": [[55, 40, 64, 48]],
    }
    assert (folder[0].mask == 255).all()


def test_crowds_and_names_that_are_not_scored_are_regions_that_teach_nothing(tmp_path: Path) -> None:
    write_list(write_bdd(tmp_path), NEW_LIST)
    sample = open_source(Bdd100kSource(folder=tmp_path, task="detection"), load_label_set("cityscapes19"))[0]
    assert ignored_by_class(sample, "cityscapes19") == [
        ("car", [40, 0, 60, 10]),
        ("car", [40, 12, 50, 20]),
        ("rider", [50, 30, 60, 40]),
    ]


def test_a_frame_without_labels_is_unknown_and_an_empty_list_means_that_nothing_is_there(tmp_path: Path) -> None:
    write_list(write_bdd(tmp_path), NEW_LIST)
    folder = open_source(Bdd100kSource(folder=tmp_path, task="detection"))
    assert [folder[index].has_boxes for index in range(4)] == [True, True, False, False]
    assert not len(folder[1].boxes_xyxy)


def test_the_list_of_2018_has_other_names_lanes_and_areas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_list(write_bdd(tmp_path), OLD_LIST, OLD)
    folder = open_source(Bdd100kSource(folder=tmp_path, task="detection"))
    assert boxes_by_class(folder[0], "bdd100k19") == {
        "pedestrian": [[1, 2, 9, 12]],
        "bicycle": [[20, 20, 30, 30]],
        "motorcycle": [[31, 20, 40, 30]],
    }
    assert not folder[1].has_boxes
    assert "3 of 4 frames have no labels, b1c81faa-3df17267 first" in capsys.readouterr().out


def test_the_list_of_2020_counts_where_both_are_there(tmp_path: Path) -> None:
    write_list(write_bdd(tmp_path), OLD_LIST, OLD)
    write_list(tmp_path, NEW_LIST)
    assert len(open_source(Bdd100kSource(folder=tmp_path, task="detection"))[0].boxes_xyxy) == 5


def test_a_student_of_camvid_needs_no_table(tmp_path: Path) -> None:
    write_list(write_bdd(tmp_path), NEW_LIST)
    sample = open_source(Bdd100kSource(folder=tmp_path, task="detection"), load_label_set("camvid11"))[0]
    assert boxes_by_class(sample, "camvid11") == {
        "pedestrian": [[1.5, 2, 9.25, 12]],
        "car": [[55, 40, 64, 48]],
        "sign": [[2, 30, 6, 34]],
    }
    assert ("every class", [20, 20, 30, 30]) in ignored_by_class(sample, "camvid11")  # a bicycle may have its rider


def test_masks_of_nineteen_classes(tmp_path: Path) -> None:
    folder = open_source(Bdd100kSource(folder=write_bdd(tmp_path, "segmentation")), load_label_set("cityscapes19"))
    assert folder[0].mask[::12, 0].tolist() == [0, 1, 2, 255]
    assert not folder[0].has_boxes


def test_drivable_areas_teach_only_where_one_can_drive(tmp_path: Path) -> None:
    write_bdd(tmp_path, "drivable")
    source = Bdd100kSource(folder=tmp_path, task="drivable")
    student = load_label_set("camvid11")
    sample = open_source(source, student)[0]
    assert sample.mask[::12, 0].tolist() == [3, 3, 255, 255]
    assert not sample.has_boxes
    labeled = [info.name for info in student.segmentation if sample.labeled_pixels[info.id]]
    assert labeled == ["road"]
    write_list(tmp_path, NEW_LIST)
    assert open_source(source, student)[0].has_boxes


def test_frames_of_the_split_test_are_not_labelled(tmp_path: Path) -> None:
    for task in ("segmentation", "detection"):
        sample = open_source(Bdd100kSource(folder=write_bdd(tmp_path, task, "test"), task=task, split="test"))[0]
        assert (sample.mask == 255).all()
        assert not sample.has_boxes


def test_the_fingerprint_follows_the_list(tmp_path: Path) -> None:
    write_list(write_bdd(tmp_path), NEW_LIST)
    source = Bdd100kSource(folder=tmp_path, task="detection")
    before = open_source(source).fingerprint()
    write_list(tmp_path, NEW_LIST[:2])
    assert open_source(source).fingerprint() != before


def label(**changes: object) -> list[object]:
    entry = {"id": "0", "category": "car", "box2d": box(1, 2, 9, 12)} | changes
    return [{"name": f"{FRAMES[0]}.jpg", "labels": [entry]}]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (label(category="carr"), r"frame b1c66a42-6f7d68ca: label 0: .* got 'carr'; did you mean car\?"),
        (label(category=3), r"label 0: expected a category"),
        (label(box2d=None), r"label 0 \(car\): expected box2d or another shape"),
        (label(box2d=box(9, 2, 1, 12)), r"expected box2d with x1 <= x2"),
        (label(box2d=box(1, 2, float("nan"), 12)), r"expected box2d with x1 <= x2"),
        (label(box2d={"x1": 1, "y1": 2}), r"expected box2d with x1 <= x2"),
        (label(box2d=[1, 2, 9, 12]), r"expected box2d with x1 <= x2"),
        ([{"name": f"{FRAMES[0]}.jpg", "labels": "car"}], r"expected a list of labels"),
        ([{"name": f"{FRAMES[0]}.jpg"}] * 2, r"expected frame b1c66a42-6f7d68ca once"),
        ([{"labels": []}], r"frame 0: expected an object with a name"),
        ([3], r"frame 0: expected an object with a name"),
        ({"frames": []}, r"det_train.json: expected a JSON file of labels \(expected a list, got dict\)"),
        ([{"name": "other.jpg", "labels": []}], r"expected objects of the frames in .*it has those of other frames"),
    ],
)
def test_a_damaged_list_is_named(content: object, sentence: str, tmp_path: Path) -> None:
    write_list(write_bdd(tmp_path), content)
    with pytest.raises(DataError, match=sentence) as error:
        open_source(Bdd100kSource(folder=tmp_path, task="detection"))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_every_damaged_frame_is_named_in_one_run(tmp_path: Path) -> None:
    bad = [{"name": f"{frame}.jpg", "labels": [{"category": "carr", "box2d": box(1, 1, 2, 2)}]} for frame in FRAMES[:2]]
    write_list(write_bdd(tmp_path), bad)
    (tmp_path / "images/100k/train" / f"{FRAMES[3]}.jpg").write_bytes(b"no image")
    with pytest.raises(DataError) as error:
        open_source(Bdd100kSource(folder=tmp_path, task="detection"))
    lines = str(error.value).splitlines()
    assert [frame in line for frame, line in zip((*FRAMES[:2], FRAMES[3]), lines, strict=True)] == [True] * 3


def remove_masks(root: Path) -> None:
    for frame in FRAMES[:2]:
        (root / MASKS["segmentation"] / "train" / f"{frame}.png").unlink()


def cut_off(root: Path) -> None:
    path = root / MASKS["segmentation"] / "train" / f"{FRAMES[0]}.png"
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "sentences"),
    [
        (remove_masks, [f"{frame}: expected its mask at" for frame in FRAMES[:2]]),
        (cut_off, ["b1c66a42-6f7d68ca.png: expected a whole PNG"]),
        (
            lambda root: write_mask(root, "segmentation", FRAMES[1], np.full(48, 30, np.uint8)),
            ["(0..18) or 255, got [30] in 100.0% of the pixels"],
        ),
        (
            lambda root: write_mask(root, "segmentation", FRAMES[1], np.full(32, 3, np.uint8)),
            ["(48, 64) like its image, got (32, 64)"],
        ),
    ],
)
def test_damaged_masks_are_named(damage: Callable[[Path], object], sentences: list[str], tmp_path: Path) -> None:
    damage(write_bdd(tmp_path, "segmentation"))
    with pytest.raises(DataError) as error:
        open_source(Bdd100kSource(folder=tmp_path))
    lines = str(error.value).splitlines()
    assert all(sentence in line for sentence, line in zip(sentences, lines, strict=True))


def test_a_wrong_root_split_or_missing_list_is_told(tmp_path: Path) -> None:
    root = write_bdd(tmp_path / "bdd100k")
    with pytest.raises(DataError, match=r"expected boxes in .*det_20/det_train.json or .*images_train.json"):
        open_source(Bdd100kSource(folder=root, task="detection"))
    with pytest.raises(DataError, match=r"this is an inner folder of it; set folder: .*bdd100k$"):
        open_source(Bdd100kSource(folder=root / "images", task="detection"))
    with pytest.raises(DataError, match=r"it lies one level below; set folder: .*bdd100k$"):
        open_source(Bdd100kSource(folder=tmp_path, task="detection"))
    with pytest.raises(DataError, match=r"expected a split val/, there are train"):
        open_source(Bdd100kSource(folder=root, task="detection", split="val"))
    with pytest.raises(DataError, match=r"expected the folder of BDD100K, with images/10k/ and labels/: there is no"):
        open_source(Bdd100kSource(folder=root))
