"""The package's own folder format: images with masks, boxes, both, or neither for some frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from training.data.readers.frame_folder import FrameFolder
from training.data.readers.frames import FramesSource
from training.data.readers.registry import open_source, recognize
from training.errors import DataError, RecipeError

LABEL_SET = {
    "name": "student by teachers",
    "segmentation": [{"id": 0, "name": "road"}, {"id": 4, "name": "car"}],
    "detection": [{"id": 1, "name": "car"}],
}
ENTRY = {
    "boxes_xyxy": [[1, 2, 30, 20], [5, 5, 9, 9], [0, 30, 60, 40], [10, 10, 20, 20]],
    "labels": [1, 1, -1, 1],
    "scores": [0.9, 0.2, None, None],
    "ignored": [False, False, True, True],
}


def write_folder(folder: Path, masks: tuple[str, ...] = (), boxes: dict | None = None, label_set: bool = True) -> None:
    """Write frames a and b of 80 x 40 pixels, road with a car of low confidence in the masks."""
    for part in ("images", "masks", "confidence"):
        if part == "images" or masks:
            (folder / part).mkdir(parents=True)
    for name in ("a", "b"):
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.full((40, 80, 3), 90, np.uint8))
    for name in masks:
        mask, confidence = np.zeros((40, 80), np.uint8), np.full((40, 80), 255, np.uint8)
        mask[10:20, 10:20], confidence[10:20, 10:20] = 4, 127
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
        cv2.imwrite(str(folder / "confidence" / f"{name}.png"), confidence)
    if boxes is not None:
        (folder / "boxes.json").write_text(json.dumps(boxes))
    if label_set:
        (folder / "label_set.yaml").write_text(yaml.safe_dump(LABEL_SET))


def opened(folder: Path, **keys: object) -> FrameFolder:
    """Open the folder for a student of its own classes, whose ids count from 0."""
    return open_source(FramesSource(folder=folder, **keys))


def test_boxes_only(tmp_path: Path):
    write_folder(tmp_path, boxes={"a": ENTRY})
    frames = opened(tmp_path)
    known, unknown = frames[0], frames[1]
    assert known.boxes_xyxy.tolist() == [[1, 2, 30, 20], [5, 5, 9, 9]]
    assert known.ignored_xyxy.tolist() == [[0, 30, 60, 40], [10, 10, 20, 20]]
    assert known.ignored_labels.tolist() == [-1, 0]
    assert not known.labeled_pixels.any()
    assert (known.mask == 255).all()
    assert (unknown.has_boxes, unknown.labeled_boxes.any()) == (False, False), "no entry says nothing"
    assert recognize(tmp_path) == "frames"


def test_masks_only(tmp_path: Path):
    write_folder(tmp_path, masks=("a",))
    frames = opened(tmp_path)
    known, unknown = frames[0], frames[1]
    assert np.unique(known.mask).tolist() == [0, 1]
    assert (known.labeled_pixels.tolist(), known.has_boxes) == ([True, True], False)
    assert not unknown.labeled_pixels.any()


def test_what_a_teacher_is_unsure_of_teaches_nothing(tmp_path: Path):
    write_folder(tmp_path, masks=("a", "b"), boxes={"a": ENTRY})
    (tmp_path / "confidence" / "b.png").unlink()
    strict = opened(tmp_path, score_min=0.5, confidence_min=0.6)
    assert strict[0].boxes_xyxy.tolist() == [[1, 2, 30, 20]]
    assert strict[0].ignored_xyxy.tolist() == [[5, 5, 9, 9], [0, 30, 60, 40], [10, 10, 20, 20]]
    assert np.unique(strict[0].mask).tolist() == [0, 255]
    assert np.unique(strict[1].mask).tolist() == [0, 1], "without a confidence, a mask counts"
    assert strict.fingerprint() != opened(tmp_path).fingerprint()


def test_folders_without_labels_or_label_set_are_refused(tmp_path: Path):
    write_folder(tmp_path)
    with pytest.raises(DataError, match=r"expected labels in masks/ or boxes.json, there is neither; name the kind"):
        opened(tmp_path)
    (tmp_path / "label_set.yaml").unlink()
    with pytest.raises(DataError, match=r"expected the classes of the labels, .* label_set.yaml"):
        opened(tmp_path)
    (tmp_path / "label_set.yaml").write_text("name: x")
    with pytest.raises(RecipeError, match=r"label_set.yaml: label set x needs classes"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": [1, 1, -1, 7]}, r"got \[7\]"),
        ({"labels": [-1, 1, 1, 1]}, r"got \[-1\]"),
        ({"scores": [0.9, 0.2, None]}, "expected `scores` of 0..1 or null for each of 4 boxes"),
        ({"scores": [0.9, 1.2, None, None]}, "expected `scores`"),
        ({"scores": [0.9, float("nan"), None, None]}, "expected `scores`"),
        ({"ignored": [0, 0, 1, 1]}, "expected `ignored` as true or false for each of 4 boxes"),
        ({"boxes_xyxy": [[1, 2, 30]] * 4}, "expected a box of four numbers"),
        ({"boxes_xyxy": [[1, 2, 90, 20]] * 4}, "expected boxes within its 80 x 40 pixels"),
    ],
)
def test_broken_entries_are_named(tmp_path: Path, changes: dict, sentence: str):
    write_folder(tmp_path, boxes={"a": ENTRY, "b": ENTRY | changes})
    with pytest.raises(DataError, match=sentence) as error:
        opened(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'boxes.json'}: frame b: ")


def test_broken_entries_of_all_frames_come_in_one_run(tmp_path: Path):
    write_folder(tmp_path, boxes={"a": ENTRY | {"labels": []}, "b": {}})
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    assert len(str(error.value).splitlines()) == 2


def test_a_confidence_of_another_size_is_named(tmp_path: Path):
    write_folder(tmp_path, masks=("a", "b"))
    cv2.imwrite(str(tmp_path / "confidence" / "b.png"), np.zeros((50, 50), np.uint8))
    with pytest.raises(DataError, match=r"confidence/b.png: expected height and width \(40, 80\) like its mask"):
        opened(tmp_path, confidence_min=0.5)
