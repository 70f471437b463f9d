"""Test the checks of a comparison before its first run, and which earlier runs it reuses."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import ROOT
from label_sets import CAMVID

from training.checkpoint import AVERAGED_PREFIX, INFO_KEY, CheckpointInfo, read_checkpoint, read_info
from training.compare.inputs import check_inputs, find_overlaps
from training.compare.recipe import ComparisonRecipe, EntryRecipe, PlannedRun, ScoreRecipe, plan
from training.config.loading import load_settings
from training.data.readers.rendered import RenderedSource
from training.errors import CheckpointError, RecipeError
from training.networks.student import build_student
from training.recipe import Recipe, load_recipe
from training.run import finish
from training.run.frames import RunFrames
from training.run.inputs import RunInputs
from training.run.run_files import last_checkpoint_of
from training.run.stopped_run import StoppedRun

TRAINING = ROOT / "training"
RECIPE = TRAINING / "recipes" / "student_s_smoke.yaml"
COMPARISONS = sorted((TRAINING / "comparisons").glob("*.yaml"))
LEFT_OUT = TRAINING / "comparisons" / "student_n_left_out.yaml"
INPUTS = RunInputs("data", "teacher", "start")


def write_checkpoint(path: Path, of: Recipe, classes: int = 0, **notes: Any) -> Path:
    """Write a checkpoint like that of a run; with weights of an untrained student if `classes` is given."""
    network = build_student(of.size, classes, 4).state_dict() if classes else {}
    info = CheckpointInfo(of.size, of.to_yaml(), of.sha256, "data", of.epochs, "", {})
    content = {
        "state_dict": {AVERAGED_PREFIX + name: value for name, value in network.items()},
        INFO_KEY: asdict(replace(info, **notes)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("notes", "trained", "printed"),
    [
        ({"teacher_sha256": "teacher", "initial_weights_sha256": "start"}, None, "finished before"),
        ({"teacher_sha256": "teacher"}, None, "finished before"),  # an earlier version did not note the start
        ({"teacher_sha256": "teacher", "epoch": 1}, "resumed", ""),
        ({"teacher_sha256": "retrained"}, "anew", "was trained with another teacher than now: the run starts again"),
        ({"teacher_sha256": "retrained", "epoch": 1}, "anew", "another teacher than now"),
        (
            {"data_sha256": "other", "initial_weights_sha256": "other"},
            "anew",
            "other training data and other initial weights",
        ),
        ({"recipe_sha256": "other", "recipe": "size: n"}, "anew", "another recipe than now"),
        ({"recipe_sha256": "of a version with fewer settings"}, None, "finished before"),
    ],
)
def test_a_run_counts_as_finished_only_if_its_inputs_are_unchanged(
    notes: dict[str, Any],
    trained: str | None,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = load_recipe(RECIPE).replace(output=tmp_path, name="entry_1")
    planned = PlannedRun("entry", 1, recipe)
    write_checkpoint(planned.checkpoint, recipe, **notes)
    calls: list[str] = []

    def record(recipe: Recipe, resume: Path | None, accelerator: str, devices: str, anew: bool) -> None:
        calls.append("resumed" if resume else "anew" if anew else "new")

    monkeypatch.setattr(finish, "train", record)
    finish.finish_run(planned.recipe, INPUTS, "cpu", "1")
    assert calls == ([trained] if trained else [])
    assert printed in capsys.readouterr().out


def test_a_run_whose_label_set_was_renumbered_is_neither_finished_nor_resumed(
    rendered_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe names a file, and its text stays the same."""
    own, text = tmp_path / "own.yaml", (TRAINING / "label_sets" / "camvid11.yaml").read_text(encoding="utf-8")
    own.write_text(text, encoding="utf-8")
    words = [f"label_set={own}", f"data.train.0.folder={rendered_samples}", "validation={}", f"output={tmp_path}"]
    recipe = load_recipe(RECIPE, words)
    frames = RunFrames(recipe)
    noted = recipe.student_classes().model_dump(mode="json")
    path = write_checkpoint(last_checkpoint_of(recipe), recipe, label_set=noted, data_sha256=frames.fingerprint)
    stopped = StoppedRun(path, read_info(read_checkpoint(path), path), {})
    stopped.check_data(frames)
    finish.finish_run(recipe, RunInputs(frames.fingerprint), "cpu", "1")
    assert "finished before" in capsys.readouterr().out

    renumbered = text.replace("{id: 0, name: sky,", "{id: 1, name: sky,").replace(
        "{id: 1, name: building,", "{id: 0, name: building,"
    )
    assert renumbered != text
    own.write_text(renumbered, encoding="utf-8")

    changed = RunFrames(load_recipe(RECIPE, words))
    assert changed.fingerprint == frames.fingerprint
    with pytest.raises(CheckpointError, match="the label set that the run began with"):
        stopped.check_data(changed)
    monkeypatch.setattr(finish, "train", lambda *_, **__: None)
    finish.finish_run(load_recipe(RECIPE, words), RunInputs(changed.fingerprint), "cpu", "1")
    assert "was trained with another label set than now" in capsys.readouterr().out


def smoke_comparison(samples: Path, *overrides: str, teacher: str = "", second: tuple[str, ...] = ()) -> Any:
    folders = [f"data.train.0.folder={samples}"]
    folders += [f"validation.{task}.folder={samples}" for task in ("segmentation", "detection")]
    entries = (EntryRecipe(name="a", recipe=RECIPE), EntryRecipe(name="b", recipe=RECIPE, overrides=second))
    scores = (ScoreRecipe(name="rendered", frames=RenderedSource(folder=samples)),)
    comparison = ComparisonRecipe(
        name="x",
        entries=entries,
        seeds=(1, 2),
        scores=scores,
        teacher=teacher,
        overrides=("size=n", *folders, *overrides),
    )
    return comparison, plan(comparison)


def test_inputs_equal_those_that_a_run_notes(rendered_samples: Path, tmp_path: Path) -> None:
    teacher = write_checkpoint(tmp_path / "teacher.ckpt", load_recipe(RECIPE), classes=11)
    section = f"distillation={{teacher: {teacher}, terms: [{{kind: dist}}]}}"
    comparison, runs = smoke_comparison(rendered_samples, second=(section,))
    found = check_inputs(comparison, runs)
    assert found["a"].data_sha256 == found["b"].data_sha256 != ""
    assert found["a"].teacher_sha256 == "" != found["b"].teacher_sha256
    write_checkpoint(teacher, load_recipe(RECIPE), classes=11)  # trained again: other weights under the same name
    assert check_inputs(comparison, runs)["b"].differences(asdict(found["b"])) == ["another teacher"]


@pytest.mark.parametrize(
    ("classes", "at", "sentence"),
    [
        (10, "distillation", "its weights do not fit a student of size s"),
        (11, "initial_weights", "expected weights of the size and backbone that the recipe names, or of a smaller"),
        (10, "teacher", "its weights do not fit a student of size s"),
    ],
)
def test_checkpoints_that_do_not_fit_are_reported_before_the_first_run(
    classes: int, at: str, sentence: str, rendered_samples: Path, tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path / "other.ckpt", load_recipe(RECIPE), classes)  # size s, the entries are n
    section = f"distillation={{teacher: {path}, terms: [{{kind: dist}}]}}"
    comparison, runs = smoke_comparison(
        rendered_samples,
        *([f"initial_weights={path}"] if at == "initial_weights" else []),
        teacher=str(path) if at == "teacher" else "",
        second=(section,) if at == "distillation" else (),
    )
    with pytest.raises(CheckpointError, match=re.escape(f"{path}: ") + sentence):
        check_inputs(comparison, runs)


def test_a_teacher_of_other_classes_is_not_scored_beside_the_runs(rendered_samples: Path, tmp_path: Path) -> None:
    content = CAMVID.model_dump(mode="json") | {"name": "birds", "rare": [], "usual_share": {}, "mappings": {}}
    content["segmentation"][0]["name"] = "heaven"
    path = write_checkpoint(tmp_path / "birds.ckpt", load_recipe(RECIPE), classes=11, label_set=content)
    with pytest.raises(
        RecipeError, match=r"teacher: expected the classes of the runs, camvid11, .*birds.ckpt has birds"
    ):
        check_inputs(*smoke_comparison(rendered_samples, teacher=str(path)))


def make_frames(folder: Path, *names: str) -> None:
    (folder / "images").mkdir(parents=True)
    for name in names:
        (folder / "images" / f"{name}.png").touch()


@pytest.fixture
def checkout_with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout with empty frames and checkpoints where the shipped recipes expect them, under their real names."""
    monkeypatch.chdir(tmp_path)
    make_frames(Path("data/camvid/train"), "0001TP_1", "0001TP_2", "0006R0_1", "0016E5_1")
    make_frames(Path("data/camvid/val"), "0016E5_2")
    make_frames(Path("out/rendered/train"), "a_1", "a_2")
    make_frames(Path("out/rendered/val"), "a_1")
    for name in ("student_s_rendered", "student_s_left_out_0001TP", "student_s_left_out_0006R0", "student_s_camvid"):
        recipe = load_recipe(TRAINING / "recipes" / f"{name}.yaml")
        write_checkpoint(Path("out/training") / name / "checkpoints" / "last.ckpt", recipe)


def shipped(path: Path, *overrides: str) -> Any:
    comparison = load_settings(path, ComparisonRecipe, overrides)
    entries = tuple(entry.replace(recipe=TRAINING.parent / entry.recipe) for entry in comparison.entries)
    comparison = comparison.replace(entries=entries)
    return comparison, plan(comparison)


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_shipped_comparisons_score_only_frames_that_were_not_trained_on(path: Path, checkout_with_data: None) -> None:
    assert find_overlaps(*shipped(path)) == []


def test_scored_frames_that_an_entry_was_trained_on_are_reported(checkout_with_data: None) -> None:
    comparison, runs = shipped(LEFT_OUT)
    recipe = load_recipe(TRAINING / "recipes" / "student_n_camvid.yaml")  # no drive left out
    runs[0] = replace(runs[0], entry="whole", recipe=recipe)
    (warning,) = find_overlaps(comparison, runs)
    assert warning.startswith("WARNING: 2 of the 2 frames of left-out drive 0001TP are frames that entry whole was")


@pytest.mark.parametrize("at", ["teacher", "start", "one of two starts"])
def test_scored_frames_that_a_teacher_or_its_start_was_trained_on_are_reported(
    at: str, checkout_with_data: None
) -> None:
    seen = "out/training/student_s_camvid/checkpoints/last.ckpt"  # all of train
    teacher = Path("out/training/teacher/last.ckpt")
    start = seen if at == "start" else f"[out/training/elsewhere.ckpt, {seen}]"
    recipe = load_recipe(TRAINING / "recipes" / "student_s_left_out_0001TP.yaml", [f"initial_weights={start}"])
    write_checkpoint(teacher, recipe)
    comparison, runs = shipped(LEFT_OUT, f"teacher={seen if at == 'teacher' else teacher}")
    (warning,) = find_overlaps(comparison, runs)
    assert f"frames that {seen} was trained on, which flatters it" in warning
