"""Runs whose teachers look once at whole frames: what they learn, keep, share and refuse."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from checkout import ROOT
from torch import Tensor

from training.__main__ import main
from training.checkpoint import read_checkpoint
from training.errors import CheckpointError, RecipeError
from training.recipe import Recipe, load_recipe, parse_recipe
from training.run.train import train
from training.teachers.ensemble import Ensemble
from training.teachers.taught import Taught

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
TERMS = "[{kind: temperature_kl}, {kind: pseudo_boxes, labeled_too: true}]"


@pytest.fixture(scope="module")
def teacher(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = (f"data.train.0.folder={rendered_samples}", "validation={}", "epochs=1", "size=n")
    recipe = load_recipe(RECIPE, [*overrides, f"output={tmp_path_factory.mktemp('teacher')}"])
    return train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def plain(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames without labels, other ones than those with labels of `recipe_of`."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "images").mkdir()
    for path in sorted((rendered_samples / "images").iterdir())[-3:]:
        shutil.copy(path, folder / "images")
    return folder


def recipe_of(samples: Path, plain: Path, teacher: Path, output: Path, *overrides: str) -> Recipe:
    """Return a recipe of labelled and unlabelled frames, whose teacher looks at mirror images and tiles, too."""
    sources = (
        f"data.train=[{{kind: rendered, folder: {samples}, limit: 5}}, {{kind: unlabeled, folder: {plain}}}, "
        f"{{kind: rendered, folder: {samples}, share: 0}}]"
    )
    section = (
        f"distillation={{look: frame, cache: {output / 'words'}, terms: {TERMS}, teachers: [{{kind: checkpoint, "
        f"path: {teacher}, views: {{mirrored: true, columns: 2}}, box_sure: 0.04, box_unsure: 0.02, "
        "pixel_confidence_min: 0.1}]}"
    )
    pasting = ("augmentation.rare_paste=0.5", "augmentation.erase=0.5", "validation={}")
    return load_recipe(RECIPE, [sources, section, *pasting, f"output={output}", "size=n", *overrides])


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return state


def logged(folder: Path, column: str) -> list[float]:
    files = sorted((folder / "csv").glob("version_*/metrics.csv"))
    return [float(row[column]) for path in files for row in csv.DictReader(path.open()) if row.get(column)]


def files_in(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder / "words").rglob("*.safetensors")}


class NoLooks(lightning.Callback):
    """Fails if a teacher looks at anything after the run has begun."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        def refuse(self: Ensemble, images: Tensor, parts: object = None) -> Taught:
            raise AssertionError(f"a teacher looked at {tuple(images.shape)}")

        self.before, Ensemble.__call__ = Ensemble.__call__, refuse  # type: ignore[method-assign]

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        Ensemble.__call__ = self.before  # type: ignore[method-assign]


def test_a_run_learns_from_kept_words_which_other_runs_share(
    rendered_samples: Path, plain: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(rendered_samples, plain, teacher, tmp_path, "epochs=1")
    folder = train(recipe, accelerator="cpu", callbacks=(NoLooks(),))
    assert "the teachers look at 8 of 8 frames once; about 0 MB will be kept in" in capsys.readouterr().out
    for term in ("loss/soft_0_temperature_kl", "loss/soft_1_pseudo_boxes"):
        assert min(logged(folder, term)) > 0
    kept = files_in(tmp_path)
    assert len(kept) == 2 * 8  # masks and boxes; the source of share 0 is not looked at
    fewer = recipe_of(
        rendered_samples, plain, teacher, tmp_path, "epochs=1", "name=fewer", "distillation.terms=[{kind: dist}]"
    )
    train(fewer, accelerator="cpu", callbacks=(NoLooks(),))
    assert "what the teachers say about 8 frames is kept in" in capsys.readouterr().out
    assert files_in(tmp_path) == kept


def test_frames_that_are_not_taught_are_neither_looked_at_nor_learnt_from(
    rendered_samples: Path, plain: Path, teacher: Path, tmp_path: Path
) -> None:
    sources = (
        f"data.train=[{{kind: rendered, folder: {rendered_samples}, taught: false}}, "
        f"{{kind: unlabeled, folder: {plain}, share: 1.0e-6}}]"  # none of its frames is drawn
    )
    recipe = recipe_of(rendered_samples, plain, teacher, tmp_path, "epochs=1", sources)
    folder = train(recipe, accelerator="cpu", callbacks=(NoLooks(),))
    for term in ("loss/soft_0_temperature_kl", "loss/soft_1_pseudo_boxes"):
        assert set(logged(folder, term)) == {0.0}
    assert len(files_in(tmp_path)) == 2 * 3


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.train.0.taught=false"], "data.train.0.taught is false, which needs distillation.look: frame"),
        (
            ["data.train.0.taught=false", f"distillation={{teacher: t, look: frame, cache: c, terms: {TERMS}}}"],
            "all have taught: false",
        ),
    ],
)
def test_frames_without_a_teacher_are_refused_where_nothing_would_be_taught(
    overrides: list[str], sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        parse_recipe(RECIPE.read_text(), overrides)


def test_resuming_is_exact_with_and_without_kept_files(
    rendered_samples: Path, plain: Path, teacher: Path, tmp_path: Path
) -> None:
    def recipe(name: str) -> Recipe:
        return recipe_of(rendered_samples, plain, teacher, tmp_path, "epochs=2", f"name={name}")

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("stopped by the test")

    expected = weights(train(recipe("whole"), accelerator="cpu"))
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe("stopped"), accelerator="cpu", callbacks=(Stop(),))
    removed = list(files_in(tmp_path))[::2]
    for path in removed:
        path.unlink()
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    found = weights(train(recipe("stopped"), resume=last, accelerator="cpu"))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert all(path.is_file() for path in removed)


def test_an_interrupted_look_says_that_the_same_command_goes_on(
    rendered_samples: Path,
    plain: Path,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_of(rendered_samples, plain, teacher, tmp_path, "epochs=1").to_yaml())
    looks, look = [], Ensemble.__call__

    def interrupted(self: Ensemble, images: Tensor, parts: frozenset[str] | None = None) -> Taught:
        looks.append(images.shape)
        if len(looks) == 4:  # the first look is a check
            raise KeyboardInterrupt
        return look(self, images, parts)

    monkeypatch.setattr(Ensemble, "__call__", interrupted)
    assert main(["train", str(path), "--accelerator", "cpu"]) == 130
    assert "interrupted; what the teachers said so far is kept" in capsys.readouterr().out
    assert len(files_in(tmp_path)) == 2 * 2
    assert main(["train", str(path), "--accelerator", "cpu"]) == 0
    assert len(files_in(tmp_path)) == 2 * 8
    assert len(looks) == 4 + 1 + 6


def test_room_for_what_is_kept_is_checked_before_the_first_look(
    rendered_samples: Path, plain: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(rendered_samples, plain, teacher, tmp_path)
    (tmp_path / "words").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1e3 if place.name == "words" else 1e9))
    with pytest.raises(CheckpointError, match=r"expected \d+ MB of free disk for the teacher's outputs"):
        train(recipe, accelerator="cpu")
    assert not files_in(tmp_path)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("terms: [{kind: dist}]", "needs distillation.cache, the folder of what the teachers say"),
        ("cache: c, terms: [{kind: dist}, {kind: hint, at: p4}]", r"terms.1 hint compares features .*; leave the term"),
        ("cache: c, terms: [{kind: soft_classification}]", r"terms.0 soft_classification compares features"),
    ],
)
def test_what_cannot_be_kept_of_frames_is_refused(keys: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        parse_recipe(RECIPE.read_text(), [f"distillation={{teacher: t, look: frame, {keys}}}"])


def test_terms_of_logits_between_places_can_be_taught_by_frames() -> None:
    terms = "[{kind: channel_wise, at: logits}, {kind: logit_mse}, {kind: decoupled_kl}]"
    recipe = parse_recipe(RECIPE.read_text(), [f"distillation={{teacher: t, look: frame, cache: c, terms: {terms}}}"])
    assert recipe.distillation is not None
    assert len(recipe.distillation.terms) == 3
