"""Test comparisons over seeds: the statistics by hand, and a whole comparison of tiny runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ROOT

from training.__main__ import main
from training.checkpoint import INFO_KEY, read_checkpoint
from training.compare.kept_results import KeptResults
from training.compare.recipe import ComparisonRecipe, EntryRecipe, PlannedRun, ScoreRecipe, plan
from training.compare.report import write_report
from training.compare.statistics import difference, spread
from training.data.readers.rendered import RenderedSource
from training.data.readers.source import Source
from training.data.readers.unlabeled import UnlabeledSource
from training.evaluation.frame_recorder import KEPT_VERSION

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"


def entry(name: str, *overrides: str, recipe: Path = RECIPE) -> EntryRecipe:
    return EntryRecipe(name=name, recipe=recipe, overrides=overrides)


def score(name: str, reader: type[Source] = RenderedSource) -> ScoreRecipe:
    return ScoreRecipe(name=name, frames=reader(folder=Path("x")))


def test_results_of_earlier_rules_of_scoring_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = ComparisonRecipe(
        name="tried", entries=(entry("a"), entry("b")), seeds=(0,), scores=(score("x"),), output=tmp_path
    )
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(b"weights")
    kept = KeptResults(comparison)
    assert kept.of_checkpoint(checkpoint, "frames", lambda: {"ap50": 0.0}) == {"ap50": 0.0}
    assert kept.of_checkpoint(checkpoint, "frames", lambda: {"ap50": 1.0}) == {"ap50": 0.0}
    monkeypatch.setattr("training.compare.kept_results.KEPT_VERSION", KEPT_VERSION + 1)
    assert kept.of_checkpoint(checkpoint, "frames", lambda: {"ap50": 1.0}) == {"ap50": 1.0}


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    # Computed by hand: differences 1, 2, 3; mean 2, deviation 1; t(0.975, 2 degrees) = 4.302653.
    found = difference(spread([2.0, 4.0, 6.0]), spread([1.0, 2.0, 3.0]), teacher=6.0)
    half = 4.302653 / math.sqrt(3)
    assert (found.mean, found.recovered) == (2.0, 0.5)
    np.testing.assert_allclose((found.low, found.high), (2 - half, 2 + half), rtol=1e-6)


@pytest.mark.parametrize(
    ("candidate", "baseline", "verdict"),
    [
        ((0.60, 0.61, 0.62), (0.50, 0.51, 0.52), "better than the baseline, beyond the noise"),
        ((0.50, 0.51, 0.525), (0.60, 0.61, 0.62), "WARNING: worse than the baseline, beyond the noise"),
        ((0.60, 0.51, 0.55), (0.52, 0.60, 0.54), "WARNING: within the noise"),
        ((0.9,), (0.1,), "one seed: this says nothing about the noise"),
    ],
)
def test_the_verdict_follows_from_the_interval(
    candidate: tuple[float, ...], baseline: tuple[float, ...], verdict: str
) -> None:
    assert difference(spread(candidate), spread(baseline), None).verdict() == verdict


def test_no_recovered_gap_is_given_if_the_teacher_is_not_better() -> None:
    assert math.isnan(difference(spread([0.6]), spread([0.5]), teacher=0.4).recovered)
    assert math.isnan(difference(spread([0.6]), spread([0.5]), teacher=None).recovered)


def test_different_numbers_of_seeds_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same number of seeds"):
        difference(spread([0.1, 0.2]), spread([0.1]), None)


def test_the_report_warns_if_distillation_makes_the_student_worse(tmp_path: Path) -> None:
    lost = {seed: {"miou": 0.40 + 0.01 * seed, "car_ap50": 0.3} for seed in (0, 1, 2)}
    base = {seed: {"miou": 0.50 + 0.01 * seed, "car_ap50": 0.3 + 0.01 * seed} for seed in (0, 1, 2)}
    results = {
        "shown_classes": ["car"],
        "entries": {"plain": {"left out": base}, "distilled": {"left out": lost}},
        "teacher": {"left out": {"miou": 0.71}},
        "teachers": {},
        "warnings": ["WARNING: 3 of the 9 frames of left out are seen"],
    }
    text = write_report(tmp_path, "trial", ["left out"], results)
    row = next(line for line in text.splitlines() if line.startswith("| distilled | miou"))
    assert "| 41.0 | 1.0 | -10.0 |" in row
    assert "WARNING: worse" in row
    assert "-50%" in row
    assert "| teacher | miou | 71.0 |" in text
    assert text.index("WARNING: 3 of the 9") < text.index("## left out")
    assert (tmp_path / "report.md").read_text() == text
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "report.json").read_text())["teacher"]["left out"]["miou"] == 0.71


def comparison_text(samples: Path, output: Path, extra: str = "") -> str:
    return f"""
name: trial
output: {output}
seeds: [3, 4]
entries:
  - {{name: slow, recipe: {RECIPE}, overrides: [optimizer.learning_rate=1.0e-4]}}
  - {{name: fast, recipe: {RECIPE}}}
scores:
  - {{name: rendered, frames: {{kind: rendered, folder: {samples}, limit: 2}}}}
overrides:
  - size=n
  - epochs=1
  - data.train.0.folder={samples}
  - validation.segmentation.folder={samples}
  - validation.detection.folder={samples}
input_height: 128
input_width: 192
threads: 1
{extra}
"""


def test_a_whole_comparison_trains_no_finished_run_again(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "comparison.yaml"
    path.write_text(comparison_text(rendered_samples, tmp_path / "out"))
    assert main(["compare", str(path), "--accelerator", "cpu"]) == 0
    folder = tmp_path / "out" / "trial"
    checkpoints = {file: file.stat().st_mtime_ns for file in folder.rglob("last.ckpt")}
    assert {file.parts[-3] for file in checkpoints} == {"slow_3", "slow_4", "fast_3", "fast_4"}
    first = (folder / "report.json").read_text()
    scores = json.loads(first)["entries"]
    assert set(scores["fast"]["rendered"]) == {"3", "4"}
    assert scores["fast"]["rendered"]["3"] != scores["slow"]["rendered"]["3"]
    printed = capsys.readouterr().out
    assert "| slow | miou |" in printed
    assert printed.count("WARNING: 2 of the 2 frames of rendered are frames that entry slow was trained on") == 2
    # A stopped run and a run with other data are trained again; finished ones are not.
    (folder / "runs" / "fast_4" / "checkpoints" / "last.ckpt").unlink()
    other = folder / "runs" / "slow_3" / "checkpoints" / "last.ckpt"
    content = read_checkpoint(other)
    content[INFO_KEY]["data_sha256"] = "of other data"
    torch.save(content, other)
    checkpoints[other] = other.stat().st_mtime_ns
    assert main(["compare", str(path), "--accelerator", "cpu"]) == 0
    assert "was trained with other training data than now: the run starts again" in capsys.readouterr().out
    changed = {file.parts[-3] for file, when in checkpoints.items() if file.stat().st_mtime_ns != when}
    assert changed == {"fast_4", "slow_3"}
    assert (folder / "report.json").read_text() == first


def test_runs_of_an_entry_differ_only_in_their_seed(rendered_samples: Path) -> None:
    source = RenderedSource(folder=rendered_samples)
    comparison = ComparisonRecipe(
        name="x",
        entries=(entry("a"), entry("b")),
        seeds=(1, 2),
        scores=(ScoreRecipe(name="s", frames=source),),
    )
    runs = plan(comparison)
    assert [(run.entry, run.recipe.seed) for run in runs] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert len({run.checkpoint for run in runs}) == 4
    assert isinstance(runs[0], PlannedRun)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (
            (entry("a"), EntryRecipe(name="b", recipe=RECIPE, overrides=("epochs=9",))),
            "budget of a, epochs 2, got 9",
        ),
        (
            (entry("a"), EntryRecipe(name="b", recipe=RECIPE, overrides=("data.samples_per_epoch=8",))),
            "samples_per_epoch 24",
        ),
        ((entry("a"), EntryRecipe(name="b", recipe=RECIPE, overrides=("size=m",))), "size s, got m"),
        (
            (entry("a"), EntryRecipe(name="b", recipe=RECIPE, overrides=("initial_weights=x",))),
            "initial_weights none, got x",
        ),
        (
            tuple(entry(part, "initial_weights=x", f"trained_part={part}") for part in ("all", "detection")),
            "trained_part all, got detection",
        ),
        ((entry("a"), entry("a")), "different names"),
        ((entry("a"), entry("../b")), "become folders"),
        ((entry("a"), entry("b", recipe=Path("none.yaml"))), "none.yaml"),
    ],
)
def test_an_unfair_comparison_is_refused(entries: tuple[EntryRecipe, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        plan(ComparisonRecipe(name="x", entries=entries, seeds=(1,), scores=(score("s"),)))


@pytest.mark.parametrize(
    ("scores", "more", "sentence"),
    [
        ((score("s"),) * 2, {}, r"different names, got \['s', 's'\]"),
        ((score("s", UnlabeledSource),), {}, "frames with labels, s has none"),
        ((score("s"),), {"input_height": 100}, "multiples of 32"),
        ((score("s"),), {"shown_classes": ("lorry",)}, r"classes of boxes of camvid11 \(car, .*\), got lorry"),
    ],
)
def test_a_comparison_that_cannot_be_scored_is_refused(
    scores: tuple[ScoreRecipe, ...], more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        plan(ComparisonRecipe(name="x", entries=(entry("a"), entry("b")), seeds=(1,), scores=scores, **more))


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ("teacher: none.ckpt", "none.ckpt: expected a checkpoint"),
        ("", "nowhere: expected a folder with images/ and masks/"),
    ],
)
def test_missing_files_are_reported_before_any_training(
    extra: str, sentence: str, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = comparison_text(rendered_samples, tmp_path / "out", extra)
    if not extra:
        text = text.replace(
            "recipe: " + str(RECIPE) + "}", f"recipe: {RECIPE}, overrides: [data.train.0.folder=nowhere]}}"
        )
    (tmp_path / "comparison.yaml").write_text(text)
    assert main(["compare", str(tmp_path / "comparison.yaml"), "--accelerator", "cpu"]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))
