"""Mapillary Vistas: tiny folders in the layouts of 1.2 and 2.0, with the classes that their config.json lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from training.data.readers.mapillary import MapillarySource
from training.data.readers.registry import open_source, recognize
from training.errors import DataError, RecipeError
from training.label_sets.loading import load_label_set

HEIGHT, WIDTH = 48, 64
FRAMES = ("--jRsD9anHdGxv4ZOCQktA", "M2kh294N9c72sICO990Uew")


def config(name: str) -> dict[str, Any]:
    """Return what config.json holds for a shipped set."""
    shipped = load_label_set(name)
    things = {info.name for info in shipped.detection}
    rows = [
        {
            "name": info.name,
            "readable": info.name.rpartition("--")[2].title(),
            "color": list(info.color_rgb),
            "instances": info.name in things,
            "evaluate": True,
        }
        for info in shipped.segmentation_classes
    ]
    return {"labels": rows, "version": 1.2, "folder_structure": "{split}/{content}/{key:.{22}}.{ext}"}


def ids_of(name: str) -> dict[str, int]:
    return {info.name: info.id for info in load_label_set(name).segmentation}


def instances(ids: dict[str, int]) -> np.ndarray:
    """Return class x 256 + number of the object: a road, two cars that touch, and a group if the set has one."""
    values = np.full((HEIGHT, WIDTH), ids["construction--flat--road"] * 256, np.uint16)
    values[10:20, 10:30] = ids["object--vehicle--car"] * 256
    values[10:20, 30:40] = ids["object--vehicle--car"] * 256 + 1
    if "object--vehicle--vehicle-group" in ids:
        values[30:40, :10] = ids["object--vehicle--vehicle-group"] * 256
    values[:4] = ids["void--unlabeled"] * 256
    return values


def write_frames(folder: Path, name: str) -> None:
    values = instances(ids_of(name))
    for part in ("labels", "instances"):
        (folder / part).mkdir(parents=True)
    for frame in FRAMES:
        mask = Image.fromarray((values // 256).astype(np.uint8)).convert("P")
        mask.putpalette([channel for info in load_label_set(name).segmentation for channel in info.color or ()])
        mask.save(folder / "labels" / f"{frame}.png")
        cv2.imwrite(str(folder / "instances" / f"{frame}.png"), values)


def write_images(root: Path, split: str) -> Path:
    (root / split / "images").mkdir(parents=True)
    for frame in FRAMES:
        cv2.imwrite(str(root / split / "images" / f"{frame}.jpg"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return root


def write_version_1(root: Path, split: str = "training") -> Path:
    write_frames(write_images(root, split) / split, "mapillary66")
    (root / "config.json").write_text(json.dumps(config("mapillary66")))
    return root


def write_version_2(root: Path) -> Path:
    """Write the layout of 2.0, which has the labels of both versions."""
    write_images(root, "training")
    for version, name in (("v1.2", "mapillary66"), ("v2.0", "mapillary124")):
        write_frames(root / "training" / version, name)
        (root / f"config_{version}.json").write_text(json.dumps(config(name)))
    return root


def test_the_classes_of_version_1_map_to_the_students_without_a_table(tmp_path: Path) -> None:
    source = MapillarySource(folder=write_version_1(tmp_path))
    assert source.label_set() == load_label_set("mapillary66")
    folder = open_source(source, load_label_set("cityscapes19"))
    sample = folder[0]
    assert folder.names == list(FRAMES)
    assert set(np.unique(sample.mask)) == {0, 13, 255}
    assert (sample.mask[:4] == 255).all()
    assert sample.boxes_xyxy.tolist() == [[10, 10, 30, 20], [30, 10, 40, 20]]
    assert sample.labels.tolist() == [2, 2]
    assert set(np.unique(open_source(source, load_label_set("camvid11"))[0].mask)) == {3, 8, 255}


def test_version_2_is_taken_where_both_are_there_and_its_groups_teach_nothing(tmp_path: Path) -> None:
    source = MapillarySource(folder=write_version_2(tmp_path))
    assert source.label_set().name == "mapillary124"
    sample = open_source(source, load_label_set("cityscapes19"))[0]
    assert sample.boxes_xyxy.tolist() == [[10, 10, 30, 20], [30, 10, 40, 20]]
    assert sample.ignored_xyxy.tolist() == [[0, 30, 10, 40]]
    assert sample.ignored_labels.tolist() == [-1]


def test_the_labels_of_version_1_can_be_chosen(tmp_path: Path) -> None:
    source = MapillarySource(folder=write_version_2(tmp_path), version="v1.2")
    assert source.label_set().name == "mapillary66"
    assert set(np.unique(open_source(source, load_label_set("cityscapes19"))[0].mask)) == {0, 13, 255}


def test_classes_of_another_edition_keep_their_places_and_need_a_table(tmp_path: Path) -> None:
    root = write_version_1(tmp_path)
    rows = config("mapillary66")["labels"]
    rows[ids_of("mapillary66")["construction--flat--road"]]["name"] = "construction--flat--street"
    (root / "config.json").write_text(json.dumps({"labels": rows}))
    with pytest.raises(RecipeError, match="construction--flat--street"):
        open_source(MapillarySource(folder=root), load_label_set("cityscapes19"))
    sample = open_source(MapillarySource(folder=root))[0]
    assert sample.mask[-1, 0] == ids_of("mapillary66")["construction--flat--road"]


def test_the_order_of_the_config_counts(tmp_path: Path) -> None:
    root = write_version_1(tmp_path)
    rows = config("mapillary66")["labels"][::-1]
    (root / "config.json").write_text(json.dumps({"labels": rows}))
    names = {info.id: info.name for info in MapillarySource(folder=root).label_set().segmentation}
    assert names[0] == "void--unlabeled"
    assert names[65] == "animal--bird"
    assert "cityscapes19" in MapillarySource(folder=root).label_set().mappings


def test_frames_without_instances_have_masks_only(tmp_path: Path) -> None:
    root = write_version_1(tmp_path)
    for path in (root / "training/instances").iterdir():
        path.unlink()
    (root / "training/instances").rmdir()
    assert not open_source(MapillarySource(folder=root))[0].has_boxes


def test_frames_for_testing_are_not_labelled(tmp_path: Path) -> None:
    root = write_images(write_version_1(tmp_path), "testing")
    sample = open_source(MapillarySource(folder=root, split="testing"), load_label_set("cityscapes19"))[0]
    assert (sample.mask == 255).all()
    assert not sample.has_boxes
    assert recognize(root) == "mapillary"


def test_a_class_with_more_than_256_objects_is_refused_by_name(tmp_path: Path) -> None:
    # An overflow would make the objects those of the next class; the mask says otherwise.
    root = write_version_1(tmp_path)
    path = root / "training/instances" / f"{FRAMES[0]}.png"
    values = instances(ids_of("mapillary66"))
    values[10:20, 10:30] += 256
    cv2.imwrite(str(path), values)
    with pytest.raises(DataError, match=r"instances/--jRsD9anHdGxv4ZOCQktA.png: expected the classes of its mask"):
        open_source(MapillarySource(folder=root))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda root: (root / "training/labels" / f"{FRAMES[0]}.png").unlink(),
            r"ktA: expected its labels at .*labels/",
        ),
        (
            lambda root: (root / "training/instances" / f"{FRAMES[0]}.png").unlink(),
            r"expected its labels at .*instances",
        ),
        (lambda root: cut_off(root / "training/instances" / f"{FRAMES[0]}.png"), r"expected a whole PNG"),
        (
            lambda root: cv2.imwrite(
                str(root / "training/labels" / f"{FRAMES[0]}.png"), np.full((48, 64), 66, np.uint8)
            ),
            r"ids of the label set mapillary66 \(0\.\.65\) or 255, got \[66\]",
        ),
        (
            lambda root: cv2.imwrite(
                str(root / "training/instances" / f"{FRAMES[0]}.png"), np.zeros((32, 64), np.uint16)
            ),
            r"\(48, 64\) like its image, got \(32, 64\)",
        ),
        (
            lambda root: (root / "config.json").unlink(),
            r"expected config.json or config_v1.2.json .*labels: mapillary66",
        ),
        (lambda root: (root / "config.json").write_text("{"), r"config.json: expected a JSON file"),
        (lambda root: (root / "config.json").write_text('{"labels": [{"name": "a"}]}'), r"expected labels, a list of"),
    ],
)
def test_a_damaged_file_is_named(damage: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    damage(write_version_1(tmp_path))
    with pytest.raises(DataError, match=sentence) as error:
        open_source(MapillarySource(folder=tmp_path))
    assert "\n" not in str(error.value)


def test_a_wrong_root_or_version_is_told(tmp_path: Path) -> None:
    root = write_version_1(tmp_path / "vistas")
    with pytest.raises(DataError, match=r"this is an inner folder of it; set folder: .*vistas$"):
        open_source(MapillarySource(folder=root / "training", labels="mapillary66"))
    with pytest.raises(DataError, match=r"expected a split train/, there are training"):
        open_source(MapillarySource(folder=root, split="train"))
    (root / "config.json").unlink()
    with pytest.raises(DataError, match=r"expected config_v2.0.json"):
        open_source(MapillarySource(folder=root, version="v2.0"))
