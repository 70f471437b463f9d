"""Cityscapes: tiny folders in the layout of its scripts, with their odd rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.readers.cityscapes import CityscapesSource
from training.data.readers.registry import open_source, recognize
from training.errors import DataError, RecipeError
from training.label_sets.loading import load_label_set

HEIGHT, WIDTH = 48, 64
ROAD, BUILDING, PERSON, CAR, BICYCLE = 7, 11, 24, 26, 33
FRAMES = ("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313")


def square(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


OBJECTS = [
    {"label": "road", "polygon": square(0, 0, WIDTH - 1, HEIGHT - 1)},
    {"label": "car", "polygon": square(10, 10, 29, 19)},
    {"label": "license plate", "polygon": square(14, 15, 16, 16)},
    {"label": "car", "polygon": square(50, 30, 90, 60)},  # reaches out of the picture
    {"label": "cargroup", "polygon": square(0, 30, 9, 39)},
    {"label": "person", "polygon": square(20, 30, 30, 40), "deleted": 1},
    {"label": "person", "polygon": square(40, 5, 44, 20), "deleted": 0},
    {"label": "caravan", "polygon": square(34, 30, 38, 34)},
    {"label": "car", "polygon": square(200, 200, 220, 210)},  # lies outside of it
    {"label": "polegroup", "polygon": square(0, 0, 1, 20)},
]


def write_mask(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), ids)


def label_ids() -> np.ndarray:
    ids = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    ids[10:20, 10:30] = CAR
    ids[:, 62:] = 3  # out of roi
    ids[40:42, :4] = 9  # parking: no train id
    ids[44:, :4] = 255  # a license plate, -1
    return ids


def write_cityscapes(root: Path, split: str = "train", kind: str = "gtFine") -> Path:
    for frame in FRAMES:
        city = frame.partition("_")[0]
        image = root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png"
        write_mask(image, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        labels = root / kind / split / city
        write_mask(labels / f"{frame}_{kind}_labelIds.png", label_ids())
        content = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": OBJECTS}
        (labels / f"{frame}_{kind}_polygons.json").write_text(json.dumps(content))
    return root


def labels_of(root: Path, ending: str, frame: str = FRAMES[0]) -> Path:
    return root / "gtFine" / "train" / frame.partition("_")[0] / f"{frame}_gtFine_{ending}"


def change_objects(root: Path, objects: list[object], frame: str = FRAMES[0]) -> None:
    path = labels_of(root, "polygons.json", frame)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"objects": objects}))


def boxes_by_class(sample, student: str) -> dict[str, list[list[float]]]:
    names = {info.id: info.name for info in load_label_set(student).detection}
    found: dict[str, list[list[float]]] = {}
    for label, box in zip(sample.labels.tolist(), sample.boxes_xyxy.tolist(), strict=True):
        found.setdefault(names[label], []).append(box)
    return found


def test_masks_and_boxes_have_the_classes_of_the_student(tmp_path: Path) -> None:
    folder = open_source(CityscapesSource(folder=write_cityscapes(tmp_path)), load_label_set("cityscapes19"))
    assert folder.names == [f"{frame}_leftImg8bit" for frame in FRAMES]
    sample = folder[0]
    assert sample.mask[0, 0] == 0
    assert sample.mask[15, 15] == 13
    assert set(np.unique(sample.mask)) == {0, 13, 255}
    assert (sample.mask[:, 62:] == 255).all()
    assert (sample.mask[40:42, :4] == 255).all()
    assert sample.has_boxes
    assert boxes_by_class(sample, "cityscapes19") == {
        "car": [[10, 10, 30, 20], [50, 30, 64, 48]],
        "person": [[40, 5, 45, 21]],
    }


def test_groups_and_classes_that_are_not_scored_are_regions_that_teach_nothing(tmp_path: Path) -> None:
    student = load_label_set("cityscapes19")
    sample = open_source(CityscapesSource(folder=write_cityscapes(tmp_path)), student)[0]
    car = next(info.id for info in student.detection if info.name == "car")
    assert sample.ignored_xyxy is not None
    found = dict(zip(sample.ignored_labels.tolist(), sample.ignored_xyxy.tolist(), strict=True))
    assert found == {car: [0, 30, 10, 40], -1: [34, 30, 39, 35]}


def test_a_student_of_camvid_needs_no_table_and_learns_nothing_about_what_is_not_labelled(tmp_path: Path) -> None:
    student = load_label_set("camvid11")
    sample = open_source(CityscapesSource(folder=write_cityscapes(tmp_path)), student)[0]
    assert set(np.unique(sample.mask)) == {3, 8, 255}
    assert sample.labeled_boxes is not None
    labeled = {info.name: bool(sample.labeled_boxes[info.id]) for info in student.detection}
    assert labeled == {"car": True, "pedestrian": True, "bicyclist": True, "sign": False}


def test_an_object_behind_another_one_has_the_box_of_what_is_seen(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    behind = [
        {"label": "car", "polygon": square(10, 10, 39, 19)},
        {"label": "bus", "polygon": square(30, 5, 50, 25)},
        {"label": "person", "polygon": square(20, 30, 24, 40)},
        {"label": "building", "polygon": square(15, 28, 30, 45)},  # hides the person
    ]
    change_objects(tmp_path, behind)
    sample = open_source(CityscapesSource(folder=tmp_path), load_label_set("cityscapes19"))[0]
    assert boxes_by_class(sample, "cityscapes19") == {"car": [[10, 10, 30, 20]], "bus": [[30, 5, 51, 26]]}


def test_pngs_of_instances_stand_in_for_polygons(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    for frame in FRAMES:
        labels_of(tmp_path, "polygons.json", frame).unlink()
        values = np.full((HEIGHT, WIDTH), ROAD, np.uint16)
        values[10:20, 10:30] = CAR * 1000
        values[10:20, 30:40] = CAR * 1000 + 1
        values[30:40, :10] = values[30:40, 50:60] = CAR  # two groups
        values[30:35, 34:39] = 29 * 1000  # a caravan
        write_mask(labels_of(tmp_path, "instanceIds.png", frame), values)
    for labels in ("cityscapes", "cityscapes19"):
        if labels == "cityscapes19":
            write_train_ids(tmp_path)
        source = CityscapesSource(folder=tmp_path, labels=labels)
        sample = open_source(source, load_label_set("cityscapes19"))[0]
        assert boxes_by_class(sample, "cityscapes19") == {"car": [[10, 10, 30, 20], [30, 10, 40, 20]]}
        regions = sorted(zip(sample.ignored_labels.tolist(), sample.ignored_xyxy.tolist(), strict=True))
        assert regions == [(-1, [34, 30, 39, 35]), (2, [0, 30, 10, 40]), (2, [50, 30, 60, 40])]


def write_train_ids(root: Path) -> None:
    for frame in FRAMES:
        ids = np.full((HEIGHT, WIDTH), 0, np.uint8)
        ids[10:20, 10:30] = 13
        ids[40:] = 255
        write_mask(labels_of(root, "labelTrainIds.png", frame), ids)


def test_train_ids_are_read_for_the_set_of_train_ids(tmp_path: Path) -> None:
    write_train_ids(write_cityscapes(tmp_path))
    folder = open_source(CityscapesSource(folder=tmp_path, labels="cityscapes19"), load_label_set("camvid11"))
    sample = folder[0]
    assert set(np.unique(sample.mask)) == {3, 8, 255}
    assert len(sample.boxes_xyxy) == 3
    assert folder.label_files(folder.names[0])[0].name.endswith("_gtFine_labelTrainIds.png")


def test_masks_alone_say_nothing_about_objects(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    for path in tmp_path.rglob("*.json"):
        path.unlink()
    sample = open_source(CityscapesSource(folder=tmp_path))[0]
    assert not sample.has_boxes
    assert not sample.labeled_boxes.any()


def test_coarse_labels_have_masks_only(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, "train_extra", "gtCoarse")
    source = CityscapesSource(folder=tmp_path, split="train_extra", annotations="gtCoarse")
    sample = open_source(source, load_label_set("cityscapes19"))[0]
    assert (sample.mask == 13).any()
    assert not sample.has_boxes


def test_frames_of_the_split_test_are_not_labelled(tmp_path: Path) -> None:
    # Their files of labels hold the border and the bonnet only.
    write_cityscapes(tmp_path, "test")
    sample = open_source(CityscapesSource(folder=tmp_path, split="test"))[0]
    assert (sample.mask == 255).all()
    assert not sample.has_boxes
    assert not sample.labeled_pixels.any()


def test_cities_are_chosen_like_drives(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    (tmp_path / "leftImg8bit/train/zurich").mkdir()  # empty folders occur
    only = CityscapesSource(folder=tmp_path, include_drives=("bochum",))
    assert open_source(only).names == ["bochum_000000_000313_leftImg8bit"]
    assert recognize(tmp_path) == "cityscapes"


def test_copies_of_a_city_have_labels_of_their_own(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    for part in ("leftImg8bit", "gtFine"):
        shutil.copytree(tmp_path / part / "train/aachen", tmp_path / part / "train/aachen_night")
    night = tmp_path / "gtFine/train/aachen_night" / f"{FRAMES[0]}_gtFine_labelIds.png"
    write_mask(night, np.full((HEIGHT, WIDTH), BUILDING, np.uint8))
    folder = open_source(CityscapesSource(folder=tmp_path), load_label_set("cityscapes19"))
    by_name = {name: int(folder[index].mask[0, 0]) for index, name in enumerate(folder.names)}
    assert len(by_name) == 5
    assert by_name[f"aachen_night__{FRAMES[0]}_leftImg8bit"] == 2
    assert by_name[f"aachen__{FRAMES[0]}_leftImg8bit"] == 0


def test_the_fingerprint_follows_masks_and_polygons(tmp_path: Path) -> None:
    source = CityscapesSource(folder=write_cityscapes(tmp_path))
    prints = [open_source(source).fingerprint()]
    change_objects(tmp_path, OBJECTS[:3])
    prints.append(open_source(source).fingerprint())
    write_mask(labels_of(tmp_path, "labelIds.png"), np.full((HEIGHT, WIDTH), BUILDING, np.uint8))
    prints.append(open_source(source).fingerprint())
    assert len(set(prints)) == 3


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda root: labels_of(root, "labelIds.png").unlink(),
            r"aachen_000000.*expected its labels at .*labelIds.png",
        ),
        (lambda root: labels_of(root, "polygons.json").unlink(), r"expected its labels at .*polygons.json.*remove"),
        (lambda root: cut_off(labels_of(root, "labelIds.png")), r"labelIds.png: expected a whole PNG"),
        (lambda root: labels_of(root, "polygons.json").write_text("{"), r"polygons.json: expected a JSON file"),
        (lambda root: labels_of(root, "polygons.json").write_text("[]"), r"expected an object, got list"),
        (lambda root: labels_of(root, "polygons.json").write_text("[" * 100_000), r"polygons.json: expected a JSON"),
        (
            lambda root: labels_of(root, "polygons.json").write_text('{"imgHeight": 1024, "imgWidth": 2048}'),
            r"imgWidth \(48, 64\) like its image, got \(1024, 2048\)",
        ),
        (
            lambda root: change_objects(root, [{"label": "carr", "polygon": square(1, 1, 5, 5)}]),
            r"object 0: expected a name of the label set, got 'carr'; did you mean car\?",
        ),
        (
            lambda root: change_objects(root, [{"label": "skygroups", "polygon": square(1, 1, 5, 5)}]),
            r"got 'skygroups'",
        ),
        (lambda root: change_objects(root, [{"label": "car", "polygon": []}]), r"object 0 \(car\): expected corners"),
        (lambda root: change_objects(root, [{"label": "car", "polygon": [[1, float("nan")]]}]), r"expected corners"),
        (lambda root: change_objects(root, [{"label": "car", "polygon": [[1, 10**30]]}]), r"expected corners"),
        (lambda root: change_objects(root, [{"label": "car"}]), r"object 0: expected label and polygon"),
        (lambda root: change_objects(root, ["car"]), r"object 0: expected label and polygon"),
        (
            lambda root: write_mask(labels_of(root, "labelIds.png"), np.full((HEIGHT, WIDTH), 77, np.uint8)),
            r"ids of the label set cityscapes \(0\.\.33\) or 255, got \[77\]",
        ),
        (
            lambda root: write_mask(labels_of(root, "labelIds.png"), np.full((HEIGHT, 32), 7, np.uint8)),
            r"\(48, 64\) like its image, got \(48, 32\)",
        ),
    ],
)
def test_a_damaged_file_is_named(damage: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    damage(write_cityscapes(tmp_path))
    with pytest.raises(DataError, match=sentence) as error:
        open_source(CityscapesSource(folder=tmp_path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_every_damaged_file_is_named_in_one_run(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    labels_of(tmp_path, "labelIds.png", FRAMES[0]).unlink()
    cut_off(labels_of(tmp_path, "labelIds.png", FRAMES[1]))
    labels_of(tmp_path, "polygons.json", FRAMES[2]).write_text("{")
    with pytest.raises(DataError) as error:
        open_source(CityscapesSource(folder=tmp_path))
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(frame in line for frame, line in zip(FRAMES, lines, strict=True))


def test_train_ids_that_are_not_made_yet_come_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labelTrainIds.png.*csCreateTrainIdLabelImgs.*labels: cityscapes"):
        open_source(CityscapesSource(folder=write_cityscapes(tmp_path), labels="cityscapes19", limit=1))


@pytest.mark.parametrize(
    ("inner", "sentence"),
    [
        ("leftImg8bit", r"expected the folder of Cityscapes, with leftImg8bit/ and gtFine/: this is an inner folder"),
        ("leftImg8bit/train", r"this is an inner folder of it; set folder: .*root$"),
        ("..", r"it lies one level below; set folder: .*root$"),
        ("missing", r"there is no such folder"),
        ("gtFine/train/aachen", r"this is an inner folder"),
    ],
)
def test_an_inner_or_outer_folder_is_told_from_the_root(inner: str, sentence: str, tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path / "root")
    with pytest.raises(DataError, match=sentence):
        open_source(CityscapesSource(folder=root / inner))


def test_a_split_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    with pytest.raises(DataError, match=r"expected a split vall/, there are train"):
        open_source(CityscapesSource(folder=tmp_path, split="vall"))
    shutil.rmtree(tmp_path / "leftImg8bit/train")
    (tmp_path / "leftImg8bit/train").mkdir()
    with pytest.raises(DataError, match=r"expected folders of cities"):
        open_source(CityscapesSource(folder=tmp_path))


def test_a_set_of_ones_own_describes_the_label_ids(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nsegmentation: [{id: 7, name: ground}, {id: 26, name: vehicle}]\nvoid_ids: [3, 9]\n")
    folder = open_source(CityscapesSource(folder=write_cityscapes(tmp_path / "root"), labels=str(own)))
    assert set(np.unique(folder[0].mask)) == {0, 1, 255}
    with pytest.raises(RecipeError, match="there is no label set"):
        open_source(CityscapesSource(folder=tmp_path / "root", labels="cityscape"))
