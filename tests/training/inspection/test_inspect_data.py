"""`python -m training inspect-data`: figures, problems, shared frames, and what there is to look at."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from training.__main__ import main

HEIGHT, WIDTH = 96, 128
ROAD, CAR, SIGN, VOID = 3, 8, 6, 11
RECIPE = {
    "name": "tiny",
    "data": {"train": [{"kind": "camvid"}]},
    "validation": {"segmentation": {"kind": "camvid"}},
}


def write_frame(folder: Path, name: str, seed: int, brightness: int = 128) -> None:
    """Write a frame of coarse random patches: road with a car of 20 x 10 pixels, and a strip without labels."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(seed).integers(0, 2 * brightness, (6, 8, 3), np.uint8)
    image = cv2.resize(patches, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    mask = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    mask[40:50, 30:50] = CAR
    mask[:6] = VOID
    cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
    cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    for number in range(4):
        write_frame(tmp_path / "train", f"one_{number:04}", number)
    return tmp_path / "train"


@pytest.fixture
def val(tmp_path: Path) -> Path:
    for number in range(2):
        write_frame(tmp_path / "val", f"other_{number:04}", 100 + number)
    return tmp_path / "val"


def recipe(train: Path, val: Path) -> Path:
    content = json.loads(json.dumps(RECIPE))
    content["data"]["train"][0]["folder"] = str(train)
    content["validation"]["segmentation"]["folder"] = str(val)
    path = train.parent / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def inspect(data: Path, *options: str) -> tuple[int, dict, Path]:
    """Inspect; return the exit status, the figures, and the folder of the report."""
    out = data.parent / "report"
    status = main(["inspect-data", str(data), "--out", str(out), "--json", str(out / "figures.json"), *options])
    return status, json.loads((out / "figures.json").read_text()), out


def test_a_folder_is_counted_in_its_own_classes(train: Path, capsys):
    status, found, _ = inspect(train)
    assert status == 0, found["problems"]
    (source,) = found["sources"]
    assert (source["frames"], source["with_mask"], source["with_boxes"]) == (4, 4, 4)
    assert source["sizes"] == [{"width": WIDTH, "height": HEIGHT, "frames": 4}]
    assert source["unlabeled"] == pytest.approx(6 / HEIGHT)
    masks = {entry["name"]: entry for entry in source["masks"]}
    assert masks["car"]["pixels"] == 4 * 200
    assert masks["car"]["share"] == pytest.approx(200 / ((HEIGHT - 6) * WIDTH))
    assert masks["sky"]["frames"] == 0
    boxes = {entry["name"]: entry for entry in source["boxes"]}
    assert boxes["car"]["boxes"] == {"small": 4, "medium": 0, "large": 0}
    assert boxes["car"]["aspect"]["median"] == pytest.approx(2.0)
    text = capsys.readouterr().out
    assert re.search(r"^  car +1\.7 % +4$", text, re.MULTILINE)


def test_a_folder_may_need_keys_of_its_reader(train: Path, val: Path, capsys):
    shutil.move(train / "images", train / "photos")
    keys = ("--kind", "folder", "--labels", "camvid11", "--source", "image_folder=photos", "--source", "limit=2")
    status, found, _ = inspect(train, *keys)
    assert (status, found["sources"][0]["frames"]) == (0, 2), found["problems"]
    assert main(["inspect-data", str(train), "--kind", "folder", "--source", "image_foldr=photos"]) == 2
    assert "image_foldr" in capsys.readouterr().err


def test_every_bad_file_is_named_and_the_rest_is_inspected(train: Path, val: Path, capsys):
    damaged, maskless, strange, other_size = (f"one_{number:04}" for number in range(10, 14))
    for number, name in enumerate((damaged, maskless, strange, other_size)):
        write_frame(train, name, 10 + number)
    image = train / "images" / f"{damaged}.png"
    image.write_bytes(image.read_bytes()[:-200])
    (train / "masks" / f"{maskless}.png").unlink()
    cv2.imwrite(str(train / "masks" / f"{strange}.png"), np.full((HEIGHT, WIDTH), 77, np.uint8))
    cv2.imwrite(str(train / "masks" / f"{other_size}.png"), np.zeros((HEIGHT, 40), np.uint8))
    status, found, out = inspect(recipe(train, val))
    assert status == 1
    assert [source["frames"] for source in found["sources"]] == [4, 2]
    assert len(found["problems"]) == 4
    page, printed = (out / "report.html").read_text(), capsys.readouterr().out
    for name in (damaged, maskless, strange, other_size):
        (sentence,) = [one for one in found["problems"] if name in one]
        assert "expected" in sentence
        assert name in page
        assert name in printed


def test_a_missing_folder_does_not_hide_the_others(train: Path, val: Path):
    status, found, _ = inspect(recipe(train / "nowhere", val), "--pictures", "3")
    assert status == 1
    assert [source["frames"] for source in found["sources"]] == [0, 2]
    assert "nowhere" in found["problems"][0]


def test_a_validation_that_is_not_required_may_be_missing(train: Path, capsys):
    words = ("--override", "validation.required=false")
    status, found, _ = inspect(recipe(train, train.parent / "nowhere"), *words)
    assert (status, len(found["sources"])) == (0, 1)
    assert "nowhere is missing: it is left out of the validation" in capsys.readouterr().out


def test_copies_of_training_frames_in_the_validation_are_named_in_pairs(train: Path, val: Path):
    shutil.copy(train / "images" / "one_0001.png", val / "images" / "copy.png")
    shutil.copy(train / "masks" / "one_0001.png", val / "masks" / "copy.png")
    small = cv2.resize(cv2.imread(str(train / "images" / "one_0002.png")), None, fx=0.5, fy=0.5)
    cv2.imwrite(str(val / "images" / "smaller.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 60])
    cv2.imwrite(str(val / "masks" / "smaller.png"), np.full(small.shape[:2], ROAD, np.uint8))
    status, found, _ = inspect(recipe(train, val))
    assert status == 1
    pairs = [(Path(pair["training"]).name, Path(pair["validation"]).name, pair["identical"]) for pair in found["pairs"]]
    assert pairs == [("one_0001.png", "copy.png", True), ("one_0002.png", "smaller.jpg", False)]
    assert ["copy.png: expected a frame of the validation" in found["problems"][0], len(found["problems"])] == [True, 2]


def test_one_folder_for_both_is_one_problem(train: Path):
    status, found, _ = inspect(recipe(train, train))
    assert status == 1
    (sentence,) = found["problems"]
    assert "4 frames are in both" in sentence
    (source,) = found["sources"]
    assert source["keys"] == ["data.train.0", "validation.segmentation"]


def test_neighbours_of_one_drive_and_repeated_files_are_notes(train: Path, val: Path):
    write_frame(val, "one_0009", 9)
    write_frame(train, "again_0001", 3)  # the same pixels as one_0003
    status, found, _ = inspect(recipe(train, val))
    assert status == 0, found["problems"]
    notes = "\n".join(found["notes"])
    assert "drive one has 4 frames in the training and 1 in the validation" in notes
    assert "exclude_drives: [one]" in notes
    assert re.search(r"again_0001\.png, .*one_0003\.png have the same bytes", notes)


def test_classes_that_no_source_labels_are_named(train: Path, tmp_path: Path):
    status, found, _ = inspect(train, "--to", "cityscapes19")
    assert status == 0
    assert {"wall", "terrain"} <= set(found["classes_without_labels"]["segmentation"])
    assert "road" not in found["classes_without_labels"]["segmentation"]


def test_a_set_with_large_ids_is_shown_in_its_own_classes(train: Path, tmp_path: Path):
    own = tmp_path / "own.yaml"
    names = {0: "ground", ROAD: "floor", CAR: "box", VOID: "edge", 300: "roof", 40_000: "wall"}
    classes = [{"id": label, "name": name} for label, name in names.items()]
    own.write_text(yaml.safe_dump({"name": "own", "segmentation": classes}))
    cv2.imwrite(str(train / "masks" / "one_0000.png"), np.full((HEIGHT, WIDTH), 40_000, np.uint16))
    status, found, _ = inspect(train, "--kind", "folder", "--labels", str(own))
    assert status == 0, found["problems"]
    pixels = {entry["name"]: entry["pixels"] for entry in found["sources"][0]["masks"]}
    assert (pixels["wall"], pixels["box"], pixels["roof"]) == (HEIGHT * WIDTH, 3 * 200, 0)


def test_images_without_labels_are_shown_too(train: Path, capsys):
    shutil.rmtree(train / "masks")
    status, found, out = inspect(train)
    assert status == 0
    assert "read as images without labels" in capsys.readouterr().out
    (source,) = found["sources"]
    assert (source["kind"], source["frames"], source["with_mask"], source["with_boxes"]) == ("unlabeled", 4, 0, 0)
    assert (out / "report.html").read_text().count("<figure>") == 4


def test_the_page_needs_no_other_file_and_shows_names_as_text(train: Path):
    write_frame(train, "a<b>&_0001", 50)
    _, _, out = inspect(train)
    page = (out / "report.html").read_text()
    assert "a&lt;b&gt;&amp;_0001" in page
    assert "a<b>" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:image/jpeg;base64,)", page)
    assert "http" not in page
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_contact_sheet_is_a_picture_with_the_frames_and_their_colours(train: Path):
    _, _, out = inspect(train)
    with Image.open(io.BytesIO((out / "contact_sheet.png").read_bytes())) as sheet:
        colors = {color for _, color in sheet.getcolors(1 << 24)}
        assert sheet.height > 2 * HEIGHT
    assert {(128, 64, 128), (30, 60, 220)} <= colors  # road and car in the legend


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--kind", "camvid"], "--kind is for a folder"),
        (["--labels", "camvid11"], "--labels is for a folder"),
        (["--source", "limit=1"], "--source is for a folder"),
        (["--to", "camvid11"], "--to is for a folder"),
    ],
)
def test_options_for_a_folder_are_refused_for_a_recipe(train: Path, val: Path, capsys, words: list[str], sentence: str):
    assert main(["inspect-data", str(recipe(train, val)), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_without_frames_is_refused_with_the_kinds(tmp_path: Path, capsys):
    assert main(["inspect-data", str(tmp_path)]) == 2
    assert "name it: --kind" in capsys.readouterr().err
