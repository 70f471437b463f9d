"""Test figures that the labels cannot give: never a number, and refused before training if `best_by` needs one."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from checkout import ROOT

from ros_kd_perception.structures import Detections
from training.__main__ import main
from training.checkpoint import load_student
from training.compare.report import write_report
from training.data.readers.registry import open_source
from training.data.readers.yolo import YoloSource
from training.errors import DataError
from training.evaluation.box_matching import match_boxes
from training.evaluation.metrics import DetectionMetrics, SegmentationMetrics
from training.export.command import read_metrics
from training.label_sets.label_set import LabelSet
from training.recipe import ValidationRecipe, load_recipe
from training.run.train import train
from training.run.validation_figures import choose_figure

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
SIZE = (128, 192)
CAR, PEDESTRIAN = 0, 1


def write_frames(
    folder: Path, frames: int = 4, void: int = 0, labels: tuple[int, ...] = (CAR,), with_boxes: bool = True
) -> Path:
    """Write frames: the first `void` without labelled pixels, each with one box for each of `labels`."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    boxes = {}
    for number in range(frames):
        mask = np.zeros(SIZE, np.uint8)
        mask[64:] = 3
        if number < void:
            mask[:] = 255
        image = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"f{number}.jpg"), image)
        cv2.imwrite(str(folder / "masks" / f"f{number}.png"), mask)
        boxes[f"f{number}"] = {"boxes_xyxy": [[10, 40, 60, 90]] * len(labels), "labels": list(labels)}
    if with_boxes:
        (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder


def overrides(train_folder: Path, output: Path, *more: str) -> list[str]:
    return [f"data.train.0.folder={train_folder}", f"output={output}", "size=n", "data.samples_per_epoch=8", *more]


def train_command(*overridden: str) -> int:
    words = [word for override in overridden for word in ("--override", override)]
    return main(["train", str(RECIPE), "--accelerator", "cpu", *words])


def validation_by(best_by: str, segmentation: Path | None, detection: Path | None, limit: int = 4) -> list[str]:
    sources = {"segmentation": segmentation, "detection": detection}
    return [
        f"validation.best_by={best_by}",
        *(
            f"validation.{task}="
            + ("null" if folder is None else f"{{kind: rendered, folder: {folder}, limit: {limit}}}")
            for task, folder in sources.items()
        ),
    ]


@pytest.mark.parametrize(
    ("best_by", "void", "labels", "limit", "sentence"),
    [
        ("miou", 8, (CAR,), 0, r"validation.segmentation: expected pixels that have a class"),
        ("miou", 4, (CAR,), 4, r"validation.segmentation: expected pixels that have a class"),
        ("car_ap50", 8, (CAR,), 0, r"validation.segmentation: expected pixels that have a class"),
        ("car_ap50", 0, (PEDESTRIAN,), 0, r"validation.detection: expected boxes of class car"),
        ("car_ap50", 0, (), 0, r"validation.detection: expected boxes in"),
        ("miou", 0, (), 0, r"validation.detection: expected boxes in"),
    ],
)
def test_a_validation_that_cannot_give_its_figure_is_refused_before_training(
    best_by: str,
    void: int,
    labels: tuple[int, ...],
    limit: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Half of the training frames are labelled and half are void, which is valid.
    learnt, frames = write_frames(tmp_path / "train", void=2), write_frames(tmp_path / "val", 8, void, labels)
    given = overrides(learnt, tmp_path / "out", *validation_by(best_by, frames, frames, limit))
    assert train_command(*given) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert str(frames) in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_figure_that_replaces_an_absent_one_is_checked_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt, frames = write_frames(tmp_path / "train"), write_frames(tmp_path / "val", labels=())
    absent = [*validation_by("miou", tmp_path / "absent", frames), "validation.required=false"]
    assert train_command(*overrides(learnt, tmp_path / "out", *absent)) == 2
    assert "expected boxes in" in capsys.readouterr().err


def test_regions_too_small_for_a_car_give_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = write_frames(tmp_path / "val", with_boxes=False)
    mask = np.full(SIZE, 3, np.uint8)
    mask[50:55, 50:55] = 8
    for path in (frames / "masks").iterdir():
        cv2.imwrite(str(path), mask)
    by_car = [*validation_by("car_ap50", None, frames), "validation.detection.kind=camvid"]
    assert train_command(*overrides(write_frames(tmp_path / "train"), tmp_path / "out", *by_car)) == 2
    assert "validation.detection: expected boxes in" in capsys.readouterr().err


def test_frames_without_labels_are_refused_without_a_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = write_frames(tmp_path / "train", void=4, labels=())
    assert train_command(*overrides(learnt, tmp_path / "out", "validation={}")) == 2
    assert f"data.train: expected labels in {learnt}, all pixels are void" in capsys.readouterr().err
    boxes_alone = write_frames(tmp_path / "boxes", void=4)
    weightless = overrides(boxes_alone, tmp_path / "out", "validation={}", "data.train.0.box_weight=0")
    assert train_command(*weightless) == 2
    assert "no boxes count" in capsys.readouterr().err


@pytest.fixture(scope="module")
def half_blind_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run whose detection frames have no labelled pixels and only pedestrians as objects."""
    folder = tmp_path_factory.mktemp("half_blind")
    learnt = write_frames(folder / "train")
    blind = write_frames(folder / "blind", void=4, labels=(PEDESTRIAN,))
    given = overrides(learnt, folder / "out", "epochs=1", *validation_by("miou", learnt, blind, 2))
    return train(load_recipe(RECIPE, given), accelerator="cpu")


def test_detection_alone_is_not_trained_without_a_box(
    half_blind_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = write_frames(tmp_path / "train", labels=())
    start = f"initial_weights={half_blind_run / 'checkpoints' / 'last.ckpt'}"
    assert train_command(*overrides(learnt, tmp_path / "out", "validation={}", "trained_part=detection", start)) == 2
    assert f"data.train: expected boxes in {learnt} for trained_part: detection" in capsys.readouterr().err


def test_a_missing_figure_is_not_a_number_in_any_log(half_blind_run: Path) -> None:
    _, info = load_student(half_blind_run / "checkpoints" / "last.ckpt")
    assert (half_blind_run / "checkpoints" / "best.ckpt").is_file()
    assert info.metrics["car_ap50"] is info.metrics["miou_detection_frames"] is None
    assert info.metrics["pedestrian_ap50"] is not None
    rows = [row for path in half_blind_run.rglob("metrics.csv") for row in csv.DictReader(path.open())]
    assert "miou" in rows[0]
    assert not {"car_ap50", "miou_detection_frames"} & set(rows[0])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next(half_blind_run.rglob("events.*")).parent))
    events.Reload()
    assert "miou" in events.Tags()["scalars"]
    assert "car_ap50" not in events.Tags()["scalars"]


def strict_json(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_evaluate_prints_a_dash_and_writes_null(
    half_blind_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unseen = write_frames(tmp_path / "unseen", void=4, labels=())
    size = ["--height", "128", "--width", "192"]
    words = [
        str(half_blind_run / "checkpoints" / "last.ckpt"),
        str(unseen),
        *size,
        "--threads",
        "1",
        "--json",
        str(tmp_path / "o.json"),
    ]
    assert main(["evaluate", *words]) == 0
    results = strict_json(tmp_path / "o.json")
    assert results["miou"] is results["pixel_accuracy"] is results["detection"]["ap50"] is None
    assert set(results["iou"].values()) <= {None, 0.0}
    printed = capsys.readouterr().out
    for name in ("mIoU", "pixel accuracy", "AP", "AP50"):
        assert re.search(rf"^{name} +-$", printed, re.MULTILINE), name
    assert "nan" not in printed
    assert read_metrics(tmp_path / "o.json")["miou"] is None


def test_a_share_of_nothing_is_none() -> None:
    segmentation, detection = SegmentationMetrics(3), DetectionMetrics(["car"])
    segmentation.update(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
    assert segmentation.mean_iou() is segmentation.pixel_accuracy() is None
    results = detection.results()
    assert results["duplicate_pair_share"] is results["duplicate_detection_share"] is None


@pytest.mark.parametrize("text", ['{"miou": NaN}', '{"miou": -Infinity}', '{"miou": 1e999}', "[" * 100_000])
def test_figures_that_json_cannot_express_are_refused_in_a_contract(text: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(ValueError, match=r"expected .*old\.json to be JSON"):
        read_metrics(tmp_path / "old.json")


def test_comparison_on_frames_without_labels_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt, unseen = write_frames(tmp_path / "train"), write_frames(tmp_path / "unseen", void=4, labels=())
    text = f"""
name: trial
output: {tmp_path / "out"}
seeds: [1]
entries: [{{name: a, recipe: {RECIPE}}}, {{name: b, recipe: {RECIPE}}}]
scores: [{{name: unseen, frames: {{kind: rendered, folder: {unseen}}}}}]
overrides: [size=n, epochs=1, data.train.0.folder={learnt}, "validation={{}}"]
input_height: 128
input_width: 192
"""
    (tmp_path / "comparison.yaml").write_text(text)
    assert main(["compare", str(tmp_path / "comparison.yaml"), "--accelerator", "cpu"]) == 2
    assert f"scores unseen: expected pixels that have a class, or boxes, in {unseen}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_report_of_a_comparison_has_dashes_and_nulls(tmp_path: Path) -> None:
    figures = {seed: {"miou": None, "ap50": 0.3, "car_ap50": None} for seed in (1, 2)}
    others = {seed: {"miou": 0.5, "ap50": 0.3, "car_ap50": 0.2} for seed in (1, 2)}
    results = {
        "shown_classes": ["car"],
        "entries": {name: {"boxes alone": figures, "all": others} for name in ("plain", "distilled")},
        "teacher": {"boxes alone": {"miou": None, "ap50": 0.4, "car_ap50": None}, "all": {"miou": 0.6}},
        "teachers": {},
        "warnings": [],
    }
    text = write_report(tmp_path, "trial", ["boxes alone", "all"], results)
    assert text.count("| plain | miou | - |") == text.count("| plain | car_ap50 | - |") == 1
    assert "| plain | miou | 50.0 |" in text
    assert strict_json(tmp_path / "report.json")["entries"]["plain"]["boxes alone"]["1"]["miou"] is None


def test_frames_whose_objects_may_lack_a_box_yield_no_figure_of_boxes(tmp_path: Path) -> None:
    """A perfect model: what the frames do not label is not scored, neither as wrong nor as missed."""
    (tmp_path / "data.yaml").write_text("names: [car]")
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.full((*SIZE, 3), 90, np.uint8))
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    found = {}
    for positives_only in (False, True):
        source = YoloSource(folder=tmp_path, positives_only=positives_only)
        frames = open_source(source, LabelSet.checked({"name": "cars", "detection": [{"id": 0, "name": "car"}]}))
        sample = frames[0]
        boxes = Detections(sample.boxes_xyxy, np.ones(1, np.float32), sample.labels.astype(np.int32))
        metrics = DetectionMetrics(["car"])
        metrics.update(boxes, sample, 0.3)
        matched = match_boxes(boxes, sample, 1)
        found[positives_only] = metrics.results()["ap50"], matched.true_boxes.tolist(), len(matched.scores)
        if positives_only:
            settings = ValidationRecipe(detection=source, best_by="ap50")
            with pytest.raises(DataError, match=r"validation.detection: expected a box of every object"):
                choose_figure(settings, [None, frames])

    assert found == {False: (1.0, [1], 1), True: (None, [0], 0)}
