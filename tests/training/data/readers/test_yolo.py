"""YOLO text files: tiny folders in the layouts that tools export."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from checkout import ROOT

from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source, recognize
from training.data.readers.yolo import YoloSource
from training.errors import DataError, RecipeError
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set

NAMES = ["person", "car"]
REAL = ROOT.parent / "shared" / "frames" / "roadsigns"
STUDENT = LabelSet.checked(
    {"name": "student", "detection": [{"id": 0, "name": "car"}, {"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]}
)


def write_frame(image: Path, text: str | None) -> None:
    """Write an image of 80 x 40 pixels and its text file, where YOLO looks for it."""
    labels = Path(*("labels" if part == "images" else part for part in image.parts)).with_suffix(".txt")
    for path in (image, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), np.full((40, 80, 3), 90, np.uint8))
    if text is not None:
        labels.write_text(text)


def write_names(folder: Path, **keys: object) -> None:
    (folder / "data.yaml").write_text(yaml.safe_dump({"names": NAMES} | keys))


def opened(folder: Path, **keys: object) -> FrameFolder:
    return open_source(YoloSource(folder=folder, **keys), STUDENT)


def test_shares_become_pixels_and_polygons_boxes(tmp_path: Path):
    write_names(tmp_path)
    text = "1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.3 0.2 0.3 0.6\n1 0.5 0.5 0.25 0.5\n"
    write_frame(tmp_path / "images" / "a.jpg", text)
    write_frame(tmp_path / "images" / "b.png", "")
    frames = opened(tmp_path)
    busy, empty = frames[0], frames[1]
    assert busy.labels.tolist() == [0, 1], "by name: the file's 1 is a car; a line that comes twice counts once"
    assert np.allclose(busy.boxes_xyxy, [[30, 10, 50, 30], [8, 8, 24, 24]])
    assert busy.labeled_boxes.tolist() == [True, True, False]
    assert (empty.has_boxes, len(empty.labels)) == (True, 0)
    assert recognize(tmp_path) == "yolo"


def test_a_missing_text_file_means_what_the_recipe_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_names(tmp_path)
    write_frame(tmp_path / "images" / "a.jpg", "1 0.5 0.5 0.25 0.5")
    write_frame(tmp_path / "images" / "b.jpg", None)
    background = opened(tmp_path)
    assert (
        "1 of 2 images have no text file, b.txt first: it shows no objects (missing_means)" in capsys.readouterr().out
    )
    unknown = opened(tmp_path, missing_means="unknown")
    assert background[1].labeled_boxes.tolist() == [True, True, False]
    assert not unknown[1].has_boxes
    assert not unknown[1].labeled_boxes.any()
    assert background.fingerprint() != unknown.fingerprint()


def test_positives_only_makes_missing_boxes_teach_nothing(tmp_path: Path):
    write_names(tmp_path)
    write_frame(tmp_path / "images" / "a.jpg", "1 0.5 0.5 0.25 0.5")
    sample = opened(tmp_path, positives_only=True)[0]
    assert (sample.has_boxes, sample.labels.tolist()) == (True, [0])
    assert not sample.labeled_boxes.any()


@pytest.mark.parametrize(
    ("train", "image"),
    [
        (None, "images/train/a.jpg"),
        (None, "train/images/a.jpg"),
        ("images/train", "images/train/deep/a.jpg"),
        ("../train/images", "train/images/a.jpg"),
        (["images/one", "images/two"], "images/two/a.jpg"),
        ("train.txt", "images/a.jpg"),
        ("lists/train.txt", "images/a.jpg"),
    ],
)
def test_splits(tmp_path: Path, train: object, image: str):
    write_names(tmp_path, path="/elsewhere/data", **({"train": train, "val": "images/val"} if train else {}))
    write_frame(tmp_path / image, "1 0.5 0.5 0.25 0.5")
    write_frame(tmp_path / "images" / "val" / "b.jpg", "")
    (tmp_path / "images" / "one").mkdir(exist_ok=True)
    write_frame(tmp_path / "images" / "one" / "c.jpg", "")
    for list_file in ("train.txt", "lists/train.txt"):
        if train == list_file:
            (tmp_path / list_file).parent.mkdir(exist_ok=True)
            (tmp_path / list_file).write_text(f"./{image}\n\n")
    frames = opened(tmp_path, split="train")
    assert "a" in frames.names
    assert "b" not in frames.names
    assert frames.counts.boxes["car"] == 1


@pytest.mark.parametrize("train", ["images/train", "../train/images"])
def test_a_data_set_with_splits_is_recognized_and_its_training_is_the_usual_one(tmp_path: Path, train: str):
    write_names(tmp_path, train=train, val="images/val")
    write_frame(tmp_path / train.removeprefix("../") / "a.jpg", "1 0.5 0.5 0.25 0.5")
    write_frame(tmp_path / "images" / "val" / "b.jpg", "")
    assert recognize(tmp_path) == "yolo"
    assert opened(tmp_path).names == ["a"]
    write_frame(tmp_path / "images" / "c.jpg", "")
    assert opened(tmp_path).names == ["c"]


def test_names_may_be_a_table_a_text_file_or_those_of_a_label_set(tmp_path: Path):
    write_frame(tmp_path / "images" / "a.jpg", "5 0.5 0.5 0.25 0.5")
    with pytest.raises(DataError, match=r"expected the names of the classes in data.yaml or .*\(labels\)"):
        opened(tmp_path)
    (tmp_path / "data.yaml").write_text("names: {0: person, 5: car}")
    assert opened(tmp_path)[0].labels.tolist() == [0]
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("dog\ndog2\ndog3\ndog4\ndog5\ncar\n")
    table = {"detection": dict.fromkeys(("dog2", "dog3", "dog4", "dog5"), "ignore")}
    assert opened(tmp_path, map=table)[0].labels.tolist() == [0]
    (tmp_path / "classes.txt").unlink()
    own = tmp_path / "own.yaml"
    own.write_text("name: own\ndetection: [{id: 5, name: dog}]")
    assert opened(tmp_path, labels=str(own))[0].labels.tolist() == [2]


def test_names_of_coco_follow_its_tables_and_other_names_need_one(tmp_path: Path):
    write_frame(tmp_path / "images" / "a.jpg", "2 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.1 0.1")
    write_names(tmp_path, names=["person", "bicycle", "car", "cat"])
    student = load_label_set("camvid11")
    sample = open_source(YoloSource(folder=tmp_path), student)[0]
    assert [student.detection_classes[label].name for label in sample.labels] == ["car"]
    assert sample.ignored_labels.tolist() == [-1], "a bicycle is ignored, a cat is background"
    write_names(tmp_path, names=["person", "bicycle", "car", "forklift"])
    with pytest.raises(RecipeError, match="person, bicycle, forklift map to nothing"):
        open_source(YoloSource(folder=tmp_path), student)
    with pytest.raises(RecipeError, match=r"data.yaml: the label set coco lacks forklift"):
        open_source(YoloSource(folder=tmp_path, labels="coco"), student)


def test_every_wrong_line_of_every_file_is_named(tmp_path: Path):
    write_names(tmp_path)
    write_frame(tmp_path / "images" / "a.jpg", "1 0.5 0.5 0.25\n1 0.5 0.5 nan 0.5\n7 0.5 0.5 0.25 0.5")
    write_frame(tmp_path / "images" / "b.jpg", "1 320 200 50 40\n1 0.5 0.5 0 0.5\n1 0.5 0.5 0.25 0.5 0.9")
    write_frame(tmp_path / "images" / "c.jpg", "1.5 0.5 0.5 0.25 0.5\n")
    write_frame(tmp_path / "images" / "d.jpg", "1 1.005 0.5 0.25 0.5\n")
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    first, second, third = str(error.value).splitlines()
    assert re.search(r"labels/a.txt: line 1: expected a class and four numbers .* got 4 numbers", first)
    assert "line 2: expected finite numbers" in first
    assert re.search(r"line 3: expected a class of the label set .*data.yaml, one of \[0, 1\], got 7", first)
    assert re.search(r"labels/b.txt: line 1: expected shares of the image within 0..1, got 1 320 200 50 40", second)
    assert "line 2: expected a box with a width and height" in second
    assert "line 3: expected a class and four numbers" in second
    assert re.search(r"c.txt: line 1: expected a class of .* got 1.5", third)


def test_text_files_of_other_names_than_the_images_are_not_taken_for_background(tmp_path: Path):
    write_names(tmp_path)
    write_frame(tmp_path / "images" / "a.jpg", "1 0.5 0.5 0.25 0.5")
    write_frame(tmp_path / "images" / "b.jpg", None)
    (tmp_path / "labels" / "B.txt").write_text("1 0.5 0.5 0.25 0.5")
    (tmp_path / "labels" / "classes.txt").write_text("person\ncar")
    with pytest.raises(DataError, match=r"1 of 2 images have no text file, such as .*/b.txt, and 1 text .*B.txt; give"):
        opened(tmp_path)
    for name in ("a.txt", "B.txt"):
        (tmp_path / "labels" / name).unlink()
    with pytest.raises(DataError, match="2 of 2 images have no text file"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("names: 3", "expected names as a list or as a table from id to name, got 3"),
        ("names: {a: car}", "expected names as a list"),
        ("train: images", "expected names as a list .* got None"),
        ("names: [car", "expected YAML with the names of the classes"),
        ("- car", "expected YAML with keys, names among them, got list"),
    ],
)
def test_a_broken_names_file_is_refused(tmp_path: Path, content: str, sentence: str):
    write_frame(tmp_path / "images" / "a.jpg", "")
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(DataError, match=sentence) as error:
        opened(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'data.yaml'}: ")


def test_places_without_images_are_named(tmp_path: Path):
    write_names(tmp_path, val="images/val")
    with pytest.raises(DataError, match=r"expected images or a list of them at .*/images, there is nothing"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"at .*/images/val, there is nothing; correct `folder` or `split`"):
        opened(tmp_path, split="val")
    (tmp_path / "images" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"/images: expected .jpg or .png images, found none; correct `split`"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"names.yaml: expected the names of the classes, there is no such file"):
        opened(tmp_path, names_file="names.yaml")


def test_a_listed_image_that_is_missing_is_named(tmp_path: Path):
    write_names(tmp_path, train="train.txt")
    write_frame(tmp_path / "images" / "a.jpg", "")
    (tmp_path / "train.txt").write_text("images/a.jpg\nimages/b.jpg\nimages/c.jpg\n")
    with pytest.raises(DataError) as error:
        opened(tmp_path, split="train")
    assert [name for name in ("a.jpg", "b.jpg", "c.jpg") if name in str(error.value)] == ["b.jpg", "c.jpg"]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"road signs are not at {REAL}: the reader is NOT tested on them")
def test_real_signs_are_positives_only():
    source = YoloSource(folder=REAL, labels="roadsigns", positives_only=True, limit=50)
    frames = open_source(source, load_label_set("camvid11"))
    rows = [row.split()[0] for name in frames.names for row in (REAL / "labels" / f"{name}.txt").open()]
    lights = rows.count("0")  # of traffic, which are ignored
    assert frames.counts.boxes["sign"] == pytest.approx(len(rows) - lights, abs=5)  # a repeated line counts once
    assert not frames[0].labeled_boxes.any()


def test_a_recipe_with_a_label_set_is_read_where_the_data_set_is_not(tmp_path: Path):
    away = YoloSource(folder=tmp_path / "away", labels="roadsigns", positives_only=True)
    assert away.label_set() == load_label_set("roadsigns")
    with pytest.raises(DataError, match="away"):
        away.image_files()
    with pytest.raises(DataError, match="away"):
        YoloSource(folder=tmp_path / "away").label_set()
