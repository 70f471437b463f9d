"""A comparison of teachers: their own figures, the ranking of their students, and who follows their errors."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from checkout import ROOT
from foreign_networks import HEIGHT, WIDTH, save_network

from ros_kd_perception.structures import Detections
from training.__main__ import main
from training.checkpoint import AVERAGED_PREFIX, INFO_KEY, load_student
from training.compare.entry_teachers import judge_teachers, teacher_figures
from training.compare.error_following import NOTHING, ErrorCounts, count_boxes, count_pixels
from training.compare.following_rule import clear_pairs, followed_errors
from training.compare.ranking import ranking
from training.compare.recipe import ComparisonRecipe, plan
from training.compare.report import write_report
from training.compare.statistics import spread
from training.compare.teacher_answers import Answer, TeacherAnswers
from training.compare.teacher_report import following_warnings
from training.config.loading import load_settings
from training.data.readers.registry import open_source
from training.data.readers.rendered import RenderedSource
from training.data.sample import Sample
from training.errors import RecipeError
from training.label_sets.loading import load_label_set
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.settings import FusionSettings

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
WEIGHTS = ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"
ROAD, SKY = 3, 0


def write_swapped(path: Path, one: int, other: int) -> Path:
    """Write a checkpoint of the kept weights whose classifier has the rows of two classes swapped."""
    network, info = load_student(WEIGHTS)
    weights = network.state_dict()
    order = list(range(11))
    order[one], order[other] = other, one
    for name in ("weight", "bias"):
        weights[f"segmentation.classifier.{name}"] = weights[f"segmentation.classifier.{name}"][order]
    content = {"state_dict": {AVERAGED_PREFIX + name: value for name, value in weights.items()}, INFO_KEY: asdict(info)}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def comparison_file(folder: Path, samples: Path, teachers: dict[str, Any], *overrides: str, seeds: str = "[1]") -> Path:
    """Write a comparison of labels alone with entries that listen to labels and teachers."""
    taught = "hard_weight: 0.3, terms: [{kind: temperature_kl, temperature: 1.0}]"
    entries = [{"name": "labels", "recipe": str(RECIPE)}]
    entries += [
        {"name": name, "recipe": str(RECIPE), "overrides": [f"distillation={{teachers: {json.dumps(said)}, {taught}}}"]}
        for name, said in teachers.items()
    ]
    content = {
        "name": "trial",
        "output": str(folder / "out"),
        "seeds": yaml.safe_load(seeds),
        "entries": entries,
        "scores": [{"name": "rendered", "frames": {"kind": "rendered", "folder": str(samples), "limit": 4}}],
        "overrides": [
            "size=n",
            f"initial_weights={WEIGHTS}",
            f"data.train.0.folder={samples}",
            "validation={}",
            *overrides,
        ],
        "input_height": 128,
        "input_width": 192,
        "threads": 1,
    }
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def checkpoint_teacher(path: Path) -> list[dict[str, Any]]:
    return [{"kind": "checkpoint", "path": str(path)}]


@pytest.mark.slow  # three tiny runs
def test_a_student_of_a_wrong_teacher_is_named_with_the_classes(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = write_swapped(tmp_path / "wrong.ckpt", ROAD, SKY)
    teachers = {"good": checkpoint_teacher(WEIGHTS), "wrong": checkpoint_teacher(wrong)}
    path = comparison_file(tmp_path, rendered_samples, teachers, "epochs=2", "data.samples_per_epoch=40")

    assert main(["compare", str(path), "--accelerator", "cpu"]) == 0

    printed = capsys.readouterr().out
    (warning,) = [line for line in printed.splitlines() if "follows the errors" in line]
    assert warning.startswith("WARNING: on rendered, wrong follows the errors of its teacher: ")
    assert "road taken for sky" in warning
    assert "sky taken for road" in warning
    assert "| 1 | good | " in printed
    assert "| 2 | wrong | " in printed
    assert f"| {WEIGHTS} " in printed


def write_runs(comparison: ComparisonRecipe, entries: dict[str, Path]) -> list[Any]:
    """Put checkpoints where the runs of the entries would leave theirs, and return the runs."""
    runs = plan(comparison)
    for planned in runs:
        planned.checkpoint.parent.mkdir(parents=True)
        planned.checkpoint.write_bytes(entries[planned.entry].read_bytes())
    return runs


def test_several_teachers_of_any_kind_are_scored_together_and_alone(rendered_samples: Path, tmp_path: Path) -> None:
    """A student that says road everywhere follows an ONNX teacher that says so."""
    logits = np.zeros((1, 2, HEIGHT // 4, WIDTH // 4), np.float32)
    logits[:, 1] = 9
    save_network(tmp_path / "net.onnx", {"y": logits}, height=HEIGHT, width=WIDTH)
    (tmp_path / "net.yaml").write_text(yaml.safe_dump({"segmentation": {"classes": ["sky", "road"]}}))
    onnx_teacher = {"kind": "onnx", "path": str(tmp_path / "net.onnx"), "describe": str(tmp_path / "net.yaml")}
    own_teacher = checkpoint_teacher(write_swapped(tmp_path / "same.ckpt", ROAD, ROAD))
    teachers = {"one": [onnx_teacher], "both": [*own_teacher, onnx_teacher]}
    path = comparison_file(tmp_path, rendered_samples, teachers, seeds="[1, 2]")
    comparison = load_settings(path, ComparisonRecipe)
    same, swapped = tmp_path / "same.ckpt", write_swapped(tmp_path / "swapped.ckpt", ROAD, SKY)
    runs = write_runs(comparison, {"labels": same, "one": swapped, "both": same})
    classes = runs[0].recipe.student_classes()
    frames = {score.name: open_source(score.frames, classes) for score in comparison.scores}

    found = judge_teachers(comparison, runs, frames, "cpu")

    assert list(found) == ["one", "both"]
    (of_onnx,) = found["one"]["teachers"].values()
    # Of sky and road, which it knows, the teacher always says road; it has no boxes.
    assert 0 < of_onnx["rendered"]["miou"] < 0.5
    assert of_onnx["rendered"]["ap50"] is None
    assert [name.partition(" ")[0] for name in found["both"]["teachers"]] == ["all", "0:", "1:"]
    (warning,) = following_warnings(["rendered"], found)
    assert "on rendered, one follows the errors of its teacher: sky taken for road (" in warning
    every, pair = followed_errors(found["one"]["following"]["rendered"], "pixels")
    assert (pair.label, pair.said) == ("sky", "road")
    assert every.errors == pair.errors == pair.of_class

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.npz")}
    kept |= {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("scores/*.json")}
    assert judge_teachers(comparison, runs, frames, "cpu") == found
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def answer_of(mask: np.ndarray[Any, Any], *boxes: tuple[float, float, float, float, float, int]) -> Answer:
    rows = np.array(boxes, np.float32).reshape(-1, 6)
    found = Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32))
    return Answer(mask, mask != 255, found, np.ones(3, np.bool_), np.array([True, True]))


def sample_of(mask: np.ndarray[Any, Any], *boxes: tuple[float, float, float, float, int]) -> Sample:
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    image = np.zeros((*mask.shape, 3), np.uint8)
    return Sample("a", image, mask, rows[:, :4], rows[:, 4].astype(np.int64), labeled_boxes=np.array([True, True]))


def test_pixels_count_where_the_teacher_is_wrong() -> None:
    truth, said, student = (np.array([row], np.uint8) for row in ([0, 0, 0, 1, 255, 2], [0, 1, 1, 255, 1, 1], [1] * 6))
    student[0, 1] = 2
    counts = ErrorCounts.none(("a", "b", "c"))
    count_pixels(counts, sample_of(truth), answer_of(said), student)
    assert counts.labelled.tolist() == [3, 0, 1]
    assert counts.wrong.tolist() == [[0, 2, 0], [0, 0, 0], [0, 1, 0]]
    assert counts.followed.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]
    again = ErrorCounts.of_json(json.loads(json.dumps(counts.to_json())))
    assert again.to_json() == counts.to_json()


def test_boxes_are_invented_confused_or_overlooked() -> None:
    mask = np.full((100, 200), 255, np.uint8)
    sample = sample_of(mask, (0, 0, 20, 20, 0), (50, 0, 70, 20, 0), (100, 0, 120, 20, 1), (150, 0, 170, 20, 1))
    answer = answer_of(
        mask,
        (0, 0, 20, 20, 0.9, 0),  # right
        (50, 0, 70, 20, 0.9, 1),  # another class
        (0, 50, 20, 70, 0.9, 0),  # nothing is there
        (150, 0, 170, 20, 0.3, 1),  # not sure enough: overlooked, as the third
    )
    found = Detections(
        np.array([[1, 50, 21, 70], [50, 0, 70, 20], [150, 0, 170, 20]], np.float32),
        np.full(3, 0.9, np.float32),
        np.array([0, 0, 1], np.int32),
    )
    counts = ErrorCounts.none(("car", "sign", NOTHING))
    count_boxes(counts, sample, answer, 0.5, found)
    assert counts.labelled.tolist() == [2, 2, 0]
    assert counts.wrong.tolist() == [[0, 1, 0], [0, 0, 2], [1, 0, 0]]
    assert counts.followed.tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0]]


def following(shares: list[float], baseline: list[float] | None, errors: int, labelled: int) -> dict[int, Any]:
    def counted(share: float) -> dict[str, Any]:
        pixels = {"names": ["a", "b"], "labelled": [labelled, 0], "pairs": [[0, 1, errors, round(share * errors)]]}
        return {"pixels": pixels, "boxes": {"names": [NOTHING], "labelled": [0], "pairs": []}}

    found = {seed: {"student": counted(share)} for seed, share in enumerate(shares)}
    for seed, share in enumerate(baseline or []):
        found[seed]["baseline"] = counted(share)
    return found


@pytest.mark.parametrize(
    ("shares", "baseline", "errors", "clear"),
    [
        ([0.8, 0.81], [0.2, 0.22], 500, True),
        ([0.8], [0.2], 500, True),  # one seed has no interval
        ([0.9, 0.5], [0.2, 0.45], 500, False),  # within the noise
        ([0.5, 0.51], [0.4, 0.41], 500, False),  # hardly more than the baseline
        ([0.8, 0.81], [0.2, 0.22], 10, False),  # few errors
        ([0.8, 0.81], None, 500, False),  # nothing to compare with
    ],
)
def test_the_warning_follows_from_share_interval_and_size(
    shares: list[float], baseline: list[float] | None, errors: int, clear: bool
) -> None:
    followed = followed_errors(following(shares, baseline, errors, 1000), "pixels")
    assert [(pair.label, pair.said) for pair in clear_pairs(followed, "pixels")] == ([("a", "b")] if clear else [])


def test_entries_within_the_noise_share_a_rank() -> None:
    students = {"c": spread([0.1, 0.11, 0.12]), "a": spread([0.5, 0.51, 0.55]), "b": spread([0.51, 0.5, 0.53])}
    found = ranking(students)
    assert [(place.rank, place.entry, place.alike) for place in found] == [(1, "a", ()), (1, "b", ("a",)), (3, "c", ())]


def test_the_report_ranks_the_entries_with_teachers(tmp_path: Path) -> None:
    figures = {seed: {"miou": 0.5 + 0.001 * seed, "ap50": None} for seed in (0, 1)}
    better = {seed: {"miou": 0.6 + 0.002 * seed, "ap50": None} for seed in (0, 1)}
    taught = {"teachers": {"t.ckpt": {"s": {"miou": 0.7, "ap50": None}}}, "following": {"s": {}}}
    taught["following"]["s"] = following([0.8, 0.81], [0.2, 0.22], 500, 1000)
    results = {
        "shown_classes": [],
        "entries": {"labels": {"s": figures}, "one": {"s": figures}, "two": {"s": better}},
        "teacher": {},
        "teachers": {"one": taught, "two": taught},
        "warnings": [],
    }
    text = write_report(tmp_path, "trial", ["s"], results)
    assert text.index("| 1 | two | 60.1 % | t.ckpt 70.0 % |  |") < text.index("| 2 | one | 50.0 % | t.ckpt 70.0 % |  |")
    assert "| one | pixels | 500 of 1000 | 80.5 % | 21.0 % | +59.5 |" in text
    assert "ap50 of the student" not in text


def test_entries_of_different_label_sets_are_refused(rendered_samples: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(comparison_file(tmp_path, rendered_samples, {}).read_text())
    content["entries"].append({"name": "other", "recipe": str(RECIPE), "overrides": ["label_set=cityscapes19"]})
    with pytest.raises(RecipeError, match="other: expected the label set of labels, camvid11, got cityscapes19"):
        plan(ComparisonRecipe.checked(content))


def test_thresholds_of_single_classes_change_what_a_teacher_teaches_and_not_its_figures(
    rendered_samples: Path, tmp_path: Path
) -> None:
    frames = open_source(RenderedSource(folder=rendered_samples, limit=4), load_label_set("camvid11"))
    car = [info.name for info in frames.mapping.student.detection_classes].index("car")
    teachers = {
        limit: TeacherAnswers(
            [CheckpointTeacher(kind="checkpoint", path=WEIGHTS, box_sure_by_class=by_class)],
            FusionSettings(),
            frames,
            tmp_path,
        )
        for limit, by_class in ((0.5, {}), (0.9, {"car": 0.9}), (0.95, {"car": 0.95}))
    }

    plain, *strict = (teacher_figures(answers, frames) for answers in teachers.values())

    assert plain["car_ap50"]
    assert strict == [plain, plain]
    assert len({answers.key for answers in teachers.values()}) == 3
    said = {}
    for limit, answers in teachers.items():
        assert answers.box_sure[car] == np.float32(limit)
        said[limit] = 0
        for sample, answer in answers:
            nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
            empty = replace(sample, boxes_xyxy=sample.boxes_xyxy[:0], labels=sample.labels[:0])
            counts = ErrorCounts.none(("car", "pedestrian", "bicyclist", "sign", NOTHING))
            count_boxes(counts, empty, answer, answers.box_sure, nothing)
            said[limit] += counts.wrong[-1, car]
    assert said[0.5] > said[0.9] >= said[0.95]


def test_a_limit_of_a_teacher_counts_for_the_classes_that_it_teaches(rendered_samples: Path, tmp_path: Path) -> None:
    frames = open_source(RenderedSource(folder=rendered_samples, limit=1), load_label_set("camvid11"))
    eager = CheckpointTeacher(kind="checkpoint", path=WEIGHTS, classes=("sign",), box_sure=0.3)
    strict = CheckpointTeacher(kind="checkpoint", path=WEIGHTS, classes=("car", "pedestrian"), box_sure=0.6)

    answers = TeacherAnswers([eager, strict], FusionSettings(), frames, tmp_path)

    # No teacher says bicyclists.
    assert answers.box_sure.tolist() == pytest.approx([0.6, 0.6, 0.3, 0.3])
