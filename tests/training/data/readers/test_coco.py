"""COCO: tiny folders in its layout, with instances, crowds, polygons and panoptic masks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.readers.coco import CocoSource
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source, recognize
from training.errors import DataError, RecipeError
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set

CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 17, "name": "cat", "supercategory": "animal"},
]
CROWD = {"size": [40, 80], "counts": [100, 200, 2900]}
STUDENT = load_label_set("camvid11")
IDS = {info.name: info.id for info in STUDENT.detection}


def annotation(image_id: int, category_id: int, bbox: list[float], **more: object) -> dict:
    return {"id": 1, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 0, "area": 1} | more


ANNOTATIONS = [
    annotation(42, 3, [10, 5, 20, 15], id=7, segmentation=[[10, 5, 30, 5, 30, 20, 10, 20]]),
    annotation(42, 17, [60, 5, 10, 10], id=8, segmentation=[[60, 5, 70, 5, 70, 15, 60, 15]]),
    annotation(42, 1, [0, 20, 40, 20], id=9, iscrowd=1, segmentation=CROWD),
    annotation(42, 1, [70, 20, 30, 10.5], id=10, segmentation={"size": [40, 80], "counts": [3200]}),
]


def write_coco_layout(
    folder: Path,
    annotations: list | None = None,
    names: tuple[str, ...] = ("000042.jpg", "000043.jpg"),
    file: str = "annotations/instances_val2017.json",
    images_folder: str = "val2017",
    **changes: object,
) -> None:
    """Write images of 80 x 40 pixels with ids from 42 on, and their annotations."""
    listed = [{"id": 42 + place, "file_name": name, "height": 40, "width": 80} for place, name in enumerate(names)]
    content = {"info": {"year": 2017}, "licenses": [], "images": listed, "categories": CATEGORIES}
    content |= {"annotations": ANNOTATIONS if annotations is None else annotations} | changes
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(content))
    for name in names:
        (folder / images_folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / images_folder / name), np.full((40, 80, 3), 90, np.uint8))


def opened(folder: Path, student: LabelSet = STUDENT, **keys: object) -> FrameFolder:
    return open_source(CocoSource(folder=folder, **keys), student)


def test_boxes_by_the_names_of_the_categories(tmp_path: Path):
    write_coco_layout(tmp_path)
    frames = opened(tmp_path)
    busy, empty = frames[0], frames[1]
    assert sorted(zip(busy.labels.tolist(), busy.boxes_xyxy.tolist(), strict=True)) == [
        (IDS["car"], [10, 5, 30, 20]),
        (IDS["pedestrian"], [70, 20, 80, 30.5]),  # clipped to the image
    ]
    assert busy.ignored_xyxy.tolist() == [[0, 20, 40, 40]]
    assert busy.ignored_labels.tolist() == [IDS["pedestrian"]], "a crowd teaches nothing about its class only"
    assert busy.labeled_boxes.tolist() == [True, True, False, False], "the file has neither bicycles nor signs"
    assert not busy.labeled_pixels.any()
    assert (empty.has_boxes, len(empty.labels)) == (True, 0), "an image without annotations shows background"
    assert recognize(tmp_path) == "coco"


def test_the_student_of_boxes_only_takes_all_of_its_classes(tmp_path: Path):
    coco = load_label_set("coco")
    categories = [{"id": info.id, "name": info.name} for info in coco.detection]
    write_coco_layout(tmp_path, categories=categories)
    sample = opened(tmp_path, load_label_set("coco_driving"))[0]
    assert sample.labeled_boxes.all()
    assert sample.labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("file", "images", "keys"),
    [
        ("annotations.json", "images", {}),
        ("annotations/instances_train2017.json", "train2017", {}),
        ("annotations/instances_train2017.json", "images", {}),
        ("labels/own.json", "photos", {"annotations": "labels/own.json", "image_folder": "photos"}),
        ("annotations/person_val.json", ".", {"annotations": "annotations/person_val.json", "image_folder": "."}),
    ],
)
def test_layouts(tmp_path: Path, file: str, images: str, keys: dict):
    write_coco_layout(tmp_path, file=file, images_folder=images)
    frames = opened(tmp_path, **keys)
    assert (frames.names, frames.counts.boxes["car"]) == (["000042", "000043"], 1)


def test_images_in_folders_may_have_one_name(tmp_path: Path):
    write_coco_layout(tmp_path, names=("left/1.jpg", "right/1.jpg"))
    frames = opened(tmp_path)
    assert frames.names == ["left__1", "right__1"]
    assert [len(frames[index].labels) for index in range(2)] == [2, 0]
    write_coco_layout(tmp_path, names=("left/1.jpg", "right/2.jpg"))
    assert opened(tmp_path).names == ["1", "2"]


def test_polygons_become_masks_on_request(tmp_path: Path):
    write_coco_layout(tmp_path)
    frames = opened(tmp_path, polygons=True)
    mask = frames[0].mask
    ids = {info.name: info.id for info in STUDENT.segmentation}
    assert (mask[5:20, 10:30] == ids["car"]).all()
    assert (mask == ids["car"]).sum() == 300
    assert (mask[5:15, 60:70] == 255).all(), "cats are ignored"
    assert (mask == 255).sum() == mask.size - 300, "neither crowds nor the rest of the image are labelled"
    assert frames[0].labeled_pixels.sum() == 2
    assert frames.fingerprint() != opened(tmp_path).fingerprint()


@pytest.mark.parametrize("changes", [{"height": 10**9}, {"width": None}, {"height": 0}])
def test_masks_need_sizes_that_images_can_have(tmp_path: Path, changes: dict):
    image = {"id": 42, "file_name": "000042.jpg", "height": 40, "width": 80} | changes
    write_coco_layout(tmp_path, names=("000042.jpg",), images=[image])
    with pytest.raises(DataError, match=r"000042.jpg: expected its height and width, up to 8192 pixels"):
        opened(tmp_path, polygons=True)


def write_panoptic(folder: Path) -> np.ndarray:
    """Write one frame with a road, a car, a crowd of persons and pixels of no segment; return its segment ids."""
    segments = np.zeros((40, 80), np.uint32)
    segments[20:] = 3 + 256 * 2 + 65536 * 9
    segments[5:15, 10:30] = 5_000_000
    segments[5:15, 40:60] = 77
    (folder / "annotations" / "panoptic_val2017").mkdir(parents=True)
    channels = [(segments >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)]
    cv2.imwrite(str(folder / "annotations" / "panoptic_val2017" / "000042.png"), cv2.merge(channels))
    info = [
        {"id": 3 + 256 * 2 + 65536 * 9, "category_id": 149, "bbox": [0, 20, 80, 20], "iscrowd": 0, "area": 1600},
        {"id": 5_000_000, "category_id": 3, "bbox": [10, 5, 20, 10], "iscrowd": 0, "area": 200},
        {"id": 77, "category_id": 1, "bbox": [40, 5, 20, 10], "iscrowd": 1, "area": 200},
    ]
    categories = [
        {"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60]},
        {"id": 3, "name": "car", "isthing": 1},
        {"id": 149, "name": "road", "isthing": 0},
        {"id": 184, "name": "tree-merged", "isthing": 0},
    ]
    write_coco_layout(
        folder,
        [{"image_id": 42, "file_name": "000042.png", "segments_info": info}],
        names=("000042.jpg",),
        file="annotations/panoptic_val2017.json",
        categories=categories,
    )
    return segments


def test_panoptic_files_have_masks_and_boxes(tmp_path: Path):
    segments = write_panoptic(tmp_path)
    sample = opened(tmp_path, annotations="annotations/panoptic_val2017.json")[0]
    ids = {info.name: info.id for info in STUDENT.segmentation}
    expected = np.full((40, 80), 255)
    expected[20:], expected[segments == 5_000_000], expected[segments == 77] = (
        ids["road"],
        ids["car"],
        ids["pedestrian"],
    )
    assert np.array_equal(sample.mask, expected)
    assert (sample.labels.tolist(), sample.boxes_xyxy.tolist()) == ([IDS["car"]], [[10, 5, 30, 15]])
    assert sample.ignored_labels.tolist() == [IDS["pedestrian"]]
    labeled = [name for name, known in zip(ids, sample.labeled_pixels, strict=True) if known]
    assert labeled == ["road", "tree", "car", "pedestrian"]


def test_broken_panoptic_masks_are_named(tmp_path: Path):
    write_panoptic(tmp_path)
    path = tmp_path / "annotations" / "panoptic_val2017" / "000042.png"
    cv2.imwrite(str(path), np.full((40, 80, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"000042.png: expected the segments that the annotations list for 000042, got"):
        opened(tmp_path, annotations="annotations/panoptic_val2017.json")
    cv2.imwrite(str(path), np.zeros((20, 80, 3), np.uint8))
    with pytest.raises(DataError, match=r"000042.png: expected at least 32|000042.png: expected height and width"):
        opened(tmp_path, annotations="annotations/panoptic_val2017.json")
    path.unlink()
    with pytest.raises(DataError, match=r"000042.png: expected a PNG image, there is no such file; add it"):
        opened(tmp_path, annotations="annotations/panoptic_val2017.json")


def test_missing_images_are_named_or_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_coco_layout(tmp_path, names=("1.jpg", "2.jpg", "3.jpg"))
    for name in ("2.jpg", "3.jpg"):
        (tmp_path / "val2017" / name).unlink()
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    assert [line.split(":")[0][-5:] for line in str(error.value).splitlines()] == ["2.jpg", "3.jpg"]
    assert opened(tmp_path, missing_images="skip").names == ["1"]
    assert "2 images that" in capsys.readouterr().out
    (tmp_path / "val2017" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"expected images of .*instances_val2017.json, there is none"):
        opened(tmp_path, missing_images="skip")


def test_wrong_annotations_of_all_images_come_in_one_run(tmp_path: Path):
    rows = [annotation(42, 3, [1, 2, 3]), annotation(43, 5, [1, 2, 3, 4]), annotation(43, 3, [1, 2, 3, float("nan")])]
    write_coco_layout(tmp_path, rows)
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    first, second = str(error.value).splitlines()
    file = tmp_path / "annotations" / "instances_val2017.json"
    assert first.startswith(f"{file}: 000042.jpg: annotation 1: expected bbox")
    assert second.startswith(f"{file}: 000043.jpg: annotation 1: expected bbox")
    assert "got category_id [5]" in second


def test_annotations_for_another_size_are_refused(tmp_path: Path):
    write_coco_layout(tmp_path)
    cv2.imwrite(str(tmp_path / "val2017" / "000043.jpg"), np.zeros((80, 160, 3), np.uint8))
    with pytest.raises(DataError, match=r"000043.jpg: expected an image of height and width \(40, 80\), as the file"):
        opened(tmp_path)


def test_names_of_its_own_need_a_table_and_named_sets_must_have_them(tmp_path: Path):
    write_coco_layout(tmp_path, [], categories=[{"id": 5, "name": "forklift"}])
    with pytest.raises(RecipeError, match="forklift maps to nothing"):
        opened(tmp_path)
    assert opened(tmp_path, map={"detection": {"forklift": "car"}})[0].labeled_boxes.tolist()[0]
    with pytest.raises(RecipeError, match=r"instances_val2017.json: the label set kitti lacks forklift"):
        opened(tmp_path, labels="kitti")


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"expected annotations.json or one annotations/instances_\*.json, there is none"
    ):
        opened(tmp_path)
    write_coco_layout(tmp_path)
    write_coco_layout(tmp_path, file="annotations/instances_train2017.json")
    with pytest.raises(
        DataError, match=r"there is annotations/instances_train2017.json, annotations/instances_val2017"
    ):
        opened(tmp_path)
    (tmp_path / "annotations.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"annotations.json: expected one JSON object"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"no.json: expected the annotations of COCO as JSON"):
        opened(tmp_path, annotations="no.json")
