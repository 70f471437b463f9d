"""Images and masks of one's own: grey ids, palettes, 16 bits, colours, suffixes, boxes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from training.data.readers.folder import OwnFolderSource
from training.data.readers.registry import open_source, recognize
from training.errors import DataError, RecipeError
from training.label_sets.loading import load_label_set

HEIGHT, WIDTH = 40, 48
NAMES = ("a", "b", "c")
OWN = """
name: warehouse
segmentation:
  - {id: 1, name: floor, color: [128, 64, 128]}
  - {id: 300, name: shelf, color: [70, 70, 70]}
detection:
  - {id: 4, name: robot}
void_ids: [0]
"""


def rgb(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[..., ::-1])


def write_images(folder: Path, part: str = "images") -> Path:
    (folder / part).mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        cv2.imwrite(str(folder / part / f"{name}.jpg"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return folder


def write_folder(folder: Path, mask: np.ndarray | None = None, label_set: str = OWN) -> Path:
    write_images(folder)
    ids = np.full((HEIGHT, WIDTH), 1, np.uint16)
    ids[:10] = 300
    ids[-5:] = 0
    (folder / "masks").mkdir()
    for name in NAMES:
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), ids if mask is None else mask)
    if label_set:
        (folder / "label_set.yaml").write_text(label_set)
    return folder


def test_a_folder_brings_its_label_set_and_ids_of_16_bits(tmp_path: Path) -> None:
    folder = open_source(OwnFolderSource(folder=write_folder(tmp_path)))
    assert folder[0].mask[[0, 20, -1], 0].tolist() == [1, 0, 255]
    assert not folder[0].has_boxes
    assert recognize(tmp_path) == "folder"


def test_boxes_stand_in_boxes_json(tmp_path: Path) -> None:
    write_folder(tmp_path)
    entries = {name: {"boxes_xyxy": [[1, 2, 20, 30]], "labels": [4]} for name in NAMES}
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    source = OwnFolderSource(folder=tmp_path)
    folder = open_source(source)
    assert folder[1].boxes_xyxy.tolist() == [[1, 2, 20, 30]]
    assert folder[1].labels.tolist() == [0]
    before = folder.fingerprint()
    entries["a"] = {"boxes_xyxy": [], "labels": []}
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    assert open_source(source).fingerprint() != before


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "is_other"),
    [
        ("{id: 1, name: floor, color: [128, 64, 128]}\n  - {id: 300,", "{id: 300, name: floor}\n  - {id: 1,", True),
        ("id: 4", "id: 5", True),
        ("void_ids: [0]", "void_ids: [0, 7]", True),
        ("void_ids: [0]", "void_ids: [0]\n# a remark\nmappings: {other: {segmentation: {floor: road}}}", False),
        ("color: [70, 70, 70]", "color: [70, 70, 71]", False),
    ],
)
def test_the_fingerprint_follows_what_the_numbers_of_ones_own_label_set_mean(
    tmp_path: Path, old: str, new: str, is_other: bool, named: bool
) -> None:
    """Numbers that are corrected in the file make other labels of the same masks: what is kept of them is wrong."""
    folder = write_folder(tmp_path / "frames")
    file = folder / "label_set.yaml"
    if named:
        file = file.rename(tmp_path / "own.yaml")
    source = OwnFolderSource(folder=folder, labels=str(file) if named else "")
    assert old in OWN
    prints = []
    for text in (OWN, OWN.replace(old, new)):
        file.write_text(text)
        prints.append(source.open(source.mapping_to(None)).fingerprint())

    assert (prints[0] != prints[1]) is is_other


def test_the_fingerprint_follows_the_way_in_which_masks_are_read(tmp_path: Path) -> None:
    write_folder(tmp_path)
    prints = set()
    for colors, text in ((False, OWN), (True, OWN), (True, OWN.replace("[70, 70, 70]", "[70, 70, 71]"))):
        (tmp_path / "label_set.yaml").write_text(text)
        source = OwnFolderSource(folder=tmp_path, mask_colors=colors)
        prints.add(source.open(source.mapping_to(None)).fingerprint())

    assert len(prints) == 3


def test_the_fingerprint_of_frames_with_a_shipped_label_set_is_that_of_their_files_and_names(tmp_path: Path) -> None:
    """Runs that have begun, and what teachers said, are found by it."""
    source = OwnFolderSource(folder=write_folder(tmp_path, label_set=""), labels="cityscapes19")
    folder = source.open(source.mapping_to(None))
    digest = hashlib.sha256()
    for name in NAMES:
        for path in (tmp_path / "images" / f"{name}.jpg", tmp_path / "masks" / f"{name}.png"):
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    digest.update(repr((folder.mapping.segmentation, folder.mapping.detection)).encode())

    assert folder.fingerprint() == hashlib.sha256(digest.hexdigest().encode()).hexdigest()


def test_boxes_may_be_marked_as_regions_that_teach_nothing(tmp_path: Path) -> None:
    # As extract-frames writes them where its teachers are not sure.
    write_folder(tmp_path)
    entry = {
        "boxes_xyxy": [[1, 2, 20, 30], [5, 5, 9, 9], [7, 7, 12, 12]],
        "labels": [4, 4, -1],
        "scores": [0.9, None, None],
        "ignored": [False, True, True],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(dict.fromkeys(NAMES, entry)))
    sample = open_source(OwnFolderSource(folder=tmp_path))[0]
    assert sample.boxes_xyxy.tolist() == [[1, 2, 20, 30]]
    assert sample.ignored_labels.tolist() == [0, -1]
    assert sample.ignored_xyxy.tolist() == [[5, 5, 9, 9], [7, 7, 12, 12]]


def test_boxes_need_no_masks(tmp_path: Path) -> None:
    write_folder(tmp_path)
    shutil.rmtree(tmp_path / "masks")
    entries = {name: {"boxes_xyxy": [[1, 2, 20, 30]], "labels": [4]} for name in NAMES}
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    sample = open_source(OwnFolderSource(folder=tmp_path))[0]
    assert sample.has_boxes
    assert (sample.mask == 255).all()
    assert not sample.labeled_pixels.any()


def test_masks_with_a_palette_hold_ids(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for name in NAMES:
        mask = Image.fromarray(np.full((HEIGHT, WIDTH), 1, np.uint8)).convert("P")
        mask.putpalette([0, 0, 0, 200, 10, 10])
        mask.save(tmp_path / "masks" / f"{name}.png")
    assert (open_source(OwnFolderSource(folder=tmp_path))[0].mask == 0).all()  # id 1 is the first class


@pytest.mark.parametrize("with_palette", [False, True])
def test_masks_are_read_by_the_colours_of_the_label_set(with_palette: bool, tmp_path: Path) -> None:
    write_folder(tmp_path)
    colors = np.full((HEIGHT, WIDTH, 3), (128, 64, 128), np.uint8)
    colors[:10] = (70, 70, 70)
    for name in NAMES:
        picture = Image.fromarray(colors)
        (picture.quantize(2) if with_palette else picture).save(tmp_path / "masks" / f"{name}.png")
    source = OwnFolderSource(folder=tmp_path, mask_colors=True)
    sample = open_source(source)[0]
    assert sample.mask[[0, 20], 0].tolist() == [1, 0]


def test_camvid_as_it_was_published(tmp_path: Path) -> None:
    write_images(tmp_path, "701_StillsRaw_full")
    camvid = {info.name: info.color_rgb for info in load_label_set("camvid32").segmentation_classes}
    colors = np.full((HEIGHT, WIDTH, 3), camvid["Road"], np.uint8)
    colors[:10], colors[10:12], colors[12:14], colors[14:16] = (
        camvid[name] for name in ("Sky", "LaneMkgsDriv", "SUVPickupTruck", "Void")
    )
    (tmp_path / "LabeledApproved_full").mkdir()
    for name in NAMES:
        cv2.imwrite(str(tmp_path / "LabeledApproved_full" / f"{name}_L.png"), rgb(colors))
    source = OwnFolderSource(
        folder=tmp_path,
        labels="camvid32",
        image_folder="701_StillsRaw_full",
        mask_folder="LabeledApproved_full",
        mask_suffix="_L",
        mask_colors=True,
    )
    sample = open_source(source, load_label_set("camvid11"))[0]
    assert sample.mask[[0, 10, 12, 14, 20], 0].tolist() == [0, 3, 8, 255, 3]
    assert not sample.labeled_boxes.any()


def test_images_and_masks_may_share_a_folder(tmp_path: Path) -> None:
    for name in NAMES:
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / f"{name}_mask.png"), np.full((HEIGHT, WIDTH), 3, np.uint8))
    source = OwnFolderSource(folder=tmp_path, labels="camvid11", image_folder=".", mask_folder=".", mask_suffix="_mask")
    assert open_source(source).names == list(NAMES)


def paint(folder: Path, color: tuple[int, int, int], lines: int) -> None:
    colors = np.full((HEIGHT, WIDTH, 3), (128, 64, 128), np.uint8)
    colors[:lines] = color
    for name in NAMES:
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), rgb(colors))


def test_an_unknown_colour_is_named_with_its_share_and_every_frame(tmp_path: Path) -> None:
    paint(write_folder(tmp_path), (1, 2, 3), 4)
    with pytest.raises(DataError) as error:
        open_source(OwnFolderSource(folder=tmp_path, mask_colors=True))
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(f"masks/{name}.png" in line for name, line in zip(NAMES, lines, strict=True))
    assert "got 1 others in 10.00% of the pixels: [1, 2, 3] in 10.00%; add a class" in lines[0]


@pytest.mark.parametrize(
    ("label_set", "sentence"),
    [
        (
            "name: w\nsegmentation: [{id: 0, name: floor}]\n",
            "expected a color for every class of masks, floor has none",
        ),
        (
            "name: w\nsegmentation:\n- {id: 0, name: a, color: [1, 2, 3]}\n- {id: 1, name: b, color: [1, 2, 3]}\n",
            r"expected every color once, a and b both have \[1, 2, 3\]",
        ),
    ],
)
def test_colours_that_do_not_tell_the_classes_apart_are_refused(label_set: str, sentence: str, tmp_path: Path) -> None:
    write_folder(tmp_path, label_set=label_set)
    with pytest.raises(RecipeError, match=sentence):
        open_source(OwnFolderSource(folder=tmp_path, mask_colors=True))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "label_set.yaml").unlink(), r"expected the classes of the labels, in the recipe \(labels"),
        (lambda f: (f / "label_set.yaml").write_text("name: w\nsegmentatoin: []\n"), r"label_set.yaml: .*segmentation"),
        (
            lambda f: (f / "masks/a.png").rename(f / "masks/a_mask.png"),
            r"a: expected its mask at .*a.png, there is a_mask",
        ),
        (lambda f: (f / "masks").rename(f / "labels"), r"expected masks in masks/, or boxes.json, there is neither"),
        (lambda f: (f / "images").rename(f / "pictures"), r"images: expected a folder with .jpg or .png frames"),
        (lambda f: paint(f, (1, 2, 3), 4), r"expected class ids in the one channel .* mask_colors: true"),
        (
            lambda f: cv2.imwrite(str(f / "masks/b.png"), np.full((HEIGHT, WIDTH), 9, np.uint8)),
            r"b.png: expected ids of the label set warehouse \(0\.\.1, 300\) or 255, got \[9\] in 100.0% of the pixels",
        ),
        (
            lambda f: cv2.imwrite(str(f / "masks/b.png"), np.full((HEIGHT, 32), 1, np.uint8)),
            r"b.png: expected height and width \(40, 48\) like its image, got \(40, 32\)",
        ),
        (lambda f: (f / "boxes.json").write_text("{}"), r"boxes.json: expected an entry for frame a"),
        (
            lambda f: (f / "boxes.json").write_text('{"a": {"boxes_xyxy": [], "labels": [], "ignored": [true]}}'),
            r"frame a: expected `ignored` as true or false for each of 0 boxes",
        ),
        (
            lambda f: (f / "boxes.json").write_text('{"a": {"boxes_xyxy": [[1, 1, 2, 2]], "labels": [-1]}}'),
            r"frame a: expected whole numbers as labels.*got \[-1\]",
        ),
    ],
)
def test_a_damaged_folder_is_refused(damage: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    damage(write_folder(tmp_path))
    with pytest.raises((DataError, RecipeError), match=sentence):
        open_source(OwnFolderSource(folder=tmp_path))
