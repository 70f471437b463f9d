"""Test the files that hold what teachers say about extracted frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_bag import write_small_bag

from ros_kd_perception.structures import UInt8Array
from training.data.bag_frames import extract_frames
from training.data.boxes_file import read_boxes_file
from training.data.frame_choice import FrameChoice
from training.data.image_files import read_image
from training.data.readers.registry import BY_KIND, open_source, recognize
from training.errors import DataError
from training.extraction.pseudo_labels import PseudoLabelFiles, boxes_entry, known_classes
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping
from training.teachers.pseudo_labels import PseudoLabels

STUDENT = LabelSet.checked(
    {
        "name": "street",
        "segmentation": [{"id": 0, "name": "ground"}, {"id": 1, "name": "thing"}, {"id": 2, "name": "air"}],
        "detection": [{"id": 0, "name": "thing"}, {"id": 1, "name": "plate", "region": "air"}],
        "rare": ["thing", "air"],
        "drivable": ["ground"],
    }
)
CHOICE = FrameChoice(change_min=0.0, max_frames=4)


class Dark:
    """Says that dark pixels are ground and bright ones a thing, as sure as they are dark or bright."""

    label_set = STUDENT
    sha256 = "dark"

    def __init__(self, after: int = 99, **changes: Any) -> None:
        self.after, self.changes = after, changes
        self.images: list[UInt8Array] = []

    def __call__(self, image_bgr: UInt8Array) -> PseudoLabels:
        if len(self.images) == self.after:
            raise KeyboardInterrupt
        self.images.append(image_bgr)
        bright = image_bgr[..., 1].astype(np.float32) / 255
        sure = np.maximum(bright, 1 - bright)
        values: dict[str, Any] = {
            "mask": np.where(sure > 0.6, (bright > 0.5).astype(np.uint8), np.uint8(255)),
            "confidence": sure,
            "boxes_xyxy": np.array([[1, 2, 30.123456, 40]], np.float32),
            "labels": np.array([0]),
            "scores": np.array([0.75], np.float32),
            "ignored_xyxy": np.array([[50, 2, 60, 20], [0, 0, 5, 5]], np.float32),
            "ignored_labels": np.array([0, -1]),
            "labeled_pixels": np.array([True, True, False]),
            "labeled_boxes": np.array([True, False]),
        }
        return PseudoLabels(**(values | self.changes))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", cameras=("front",))


def test_masks_and_confidences_are_those_of_the_teachers(bag: Path, tmp_path: Path) -> None:
    labeler, folder = Dark(), tmp_path / "frames"
    frames = extract_frames(bag, CHOICE, folder, PseudoLabelFiles(labeler))
    assert len(labeler.images) == len(frames.frames) == 4
    for record, image in zip(frames.frames, labeler.images, strict=True):
        assert (read_image(folder / record.file) == image).all()
        said = Dark()(image)
        assert said.mask is not None
        assert said.confidence is not None
        mask = cv2.imread(str(folder / "masks" / f"{record.name}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8
        assert (mask == said.mask).all()
        assert 255 in mask
        confidence = cv2.imread(str(folder / "confidence" / f"{record.name}.png"), cv2.IMREAD_UNCHANGED)
        assert np.abs(confidence / 255 - said.confidence).max() <= 0.5 / 255


def test_sure_boxes_come_with_scores_and_unsure_ones_as_ignored(bag: Path, tmp_path: Path) -> None:
    extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(Dark()))
    entries = json.loads((tmp_path / "frames" / "boxes.json").read_text(encoding="utf-8"))
    assert list(entries) == [f"front_000000{number}" for number in range(4)]
    assert entries["front_0000002"] == {
        "boxes_xyxy": [[1, 2, 30.1235, 40], [50, 2, 60, 20], [0, 0, 5, 5]],
        "labels": [0, 0, -1],
        "scores": [0.75, None, None],
        "ignored": [False, True, True],
    }


def test_annotations_have_the_boxes_in_the_form_of_coco(bag: Path, tmp_path: Path) -> None:
    extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(Dark()))
    content = json.loads((tmp_path / "frames" / "annotations.json").read_text(encoding="utf-8"))
    assert content["categories"] == [{"id": 0, "name": "thing"}]
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, 13))
    first, unsure, region = content["annotations"][:3]
    assert (first["image_id"], first["category_id"], first["iscrowd"], first["score"]) == (1, 0, 0, 0.75)
    assert first["bbox"] == pytest.approx([1, 2, 29.1235, 38])
    assert first["area"] == pytest.approx(29.1235 * 38)
    assert (unsure["category_id"], unsure["iscrowd"]) == (0, 1)
    assert (region["category_id"], region["iscrowd"]) == (0, 1)  # of the only class of boxes, for every class


def test_classes_that_no_teacher_knows_are_not_labelled_for_the_student(bag: Path, tmp_path: Path) -> None:
    extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(Dark()))
    written = load_label_set(tmp_path / "frames" / "label_set.yaml")
    assert [(info.id, info.name) for info in written.segmentation_classes] == [(0, "ground"), (1, "thing")]
    assert (written.rare, written.drivable) == (("thing",), ("ground",))
    mapping = LabelMapping.between(written, STUDENT)
    assert mapping.covered_segmentation == (True, True, False)
    assert mapping.covered_detection == (True, False)


def test_a_recipe_reads_the_folder_with_all_that_teachers_said(bag: Path, tmp_path: Path) -> None:
    extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(Dark()))
    source = BY_KIND[recognize(tmp_path / "frames")].checked({"folder": tmp_path / "frames", "kind": "frames"})
    folder = open_source(source, STUDENT)
    sample = folder[1]
    said = Dark()(sample.image_bgr)
    assert (sample.mask == said.mask).all()
    assert sample.confidence is not None
    assert np.abs(sample.confidence / 255 - said.confidence).max() <= 0.5 / 255
    assert sample.boxes_xyxy.tolist() == [[1, 2, pytest.approx(30.1235), 40]]
    assert sample.ignored_xyxy is not None
    assert sample.ignored_labels is not None
    assert sample.ignored_xyxy.tolist() == [[50, 2, 60, 20], [0, 0, 5, 5]]
    assert sample.ignored_labels.tolist() == [0, -1]
    assert sample.labeled_pixels is not None
    assert sample.labeled_boxes is not None
    assert sample.labeled_pixels.tolist() == [True, True, False]
    assert sample.labeled_boxes.tolist() == [True, False]
    # A box with a lower score than asked for teaches nothing.
    strict = open_source(source.replace(score_min=0.9), STUDENT)[1]
    assert len(strict.boxes_xyxy) == 0


def test_a_region_that_no_teacher_knows_is_left_out_of_the_label_set() -> None:
    known = known_classes(STUDENT, {"labeled_pixels": [True, False, False], "labeled_boxes": [False, True]})
    assert [info.name for info in known.detection] == ["plate"]
    assert known.regions == {}


def test_teachers_of_boxes_alone_write_no_masks(bag: Path, tmp_path: Path) -> None:
    labeler = Dark(mask=None, confidence=None, labeled_pixels=np.zeros(3, np.bool_))
    extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(labeler))
    assert {path.name for path in (tmp_path / "frames").iterdir()} == {
        "annotations.json", "boxes.json", "frames.json", "images", "label_set.yaml",
    }  # fmt: skip
    assert load_label_set(tmp_path / "frames" / "label_set.yaml").tasks == ("detection",)


def test_teachers_of_masks_alone_write_no_boxes(bag: Path, tmp_path: Path) -> None:
    none = {"boxes_xyxy": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    none |= {"scores": np.zeros(0, np.float32), "labeled_boxes": np.zeros(2, np.bool_)}
    none |= {"ignored_xyxy": np.zeros((0, 4), np.float32), "ignored_labels": np.zeros(0, np.int64)}
    extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(Dark(**none)))
    assert not (tmp_path / "frames" / "boxes.json").exists()
    assert load_label_set(tmp_path / "frames" / "label_set.yaml").tasks == ("segmentation",)


def test_teachers_that_know_no_class_are_refused(bag: Path, tmp_path: Path) -> None:
    labeler = Dark(labeled_pixels=np.zeros(3, np.bool_), labeled_boxes=np.zeros(2, np.bool_))
    with pytest.raises(DataError, match="the teachers know no class of the label set street"):
        extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(labeler))


def test_an_interrupted_extraction_goes_on_with_the_labels_of_both_runs(bag: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    extract_frames(bag, CHOICE, whole, PseudoLabelFiles(Dark()))
    with pytest.raises(KeyboardInterrupt):
        extract_frames(bag, CHOICE, parts, PseudoLabelFiles(Dark(after=3)))
    (parts / "masks" / "front_0000001.png").write_bytes(b"")  # never reached the disk
    labeler = Dark()
    extract_frames(bag, CHOICE, parts, PseudoLabelFiles(labeler))
    assert len(labeler.images) == 3
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert len(files) == 4 * 3 + 4
    for file in files:
        assert (whole / file).read_bytes() == (parts / file).read_bytes(), file


def test_labels_of_other_teachers_are_not_mixed_in(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(Dark(after=2)))
    other = Dark()
    other.sha256 = "others"
    with pytest.raises(DataError, match="it is of others"):
        extract_frames(bag, CHOICE, tmp_path / "frames", PseudoLabelFiles(other))


@pytest.mark.parametrize("ignored", [False, True])
def test_a_box_that_leaves_no_area_when_it_is_written_is_left_out(tmp_path: Path, ignored: bool) -> None:
    """A box that is clipped to the frame may be a sliver. One of them would make the whole folder unreadable."""
    boxes = np.array([[0, 10, 1e-5, 40], [5, 10, 25, 40], [3, 39.99999, 20, 40]], np.float32)
    none = np.zeros((0, 4), np.float32)
    seen = PseudoLabels(
        mask=None,
        confidence=None,
        boxes_xyxy=none if ignored else boxes,
        labels=np.zeros(0 if ignored else 3, np.int64),
        scores=np.full(0 if ignored else 3, 0.9, np.float32),
        ignored_xyxy=boxes if ignored else none,
        ignored_labels=np.zeros(3 if ignored else 0, np.int64),
        labeled_pixels=np.zeros(0, np.bool_),
        labeled_boxes=np.ones(1, np.bool_),
    )
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"a": boxes_entry(seen)}))

    classes = LabelSet.checked({"name": "cars", "detection": [{"id": 0, "name": "car"}]})
    found = read_boxes_file(path, ["a"], classes)["a"]

    assert found.boxes_xyxy.tolist() == [[5, 10, 25, 40]]
    assert found.ignored.tolist() == [ignored]
