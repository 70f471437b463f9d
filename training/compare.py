"""`python -m training compare FILE`: several ways of training at one budget over several seeds, and what it was worth.

Every run of the comparison is an ordinary run in its own folder: finished ones are taken as they are, broken-off ones
are gone on with, so that a comparison can be stopped and started at any time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.checkpoint import INFO_KEY, read_checkpoint
from training.compare_report import write_report
from training.data.data_module import DrivingData, open_source
from training.data.source import FrameFolder
from training.disk_errors import writing_to
from training.evaluate import evaluate, open_model, write_text
from training.recipe import Recipe, RecipeError, SourceRecipe
from training.recipe_reader import load_recipe, load_section
from training.train import train

# What two recipes must have in common to be trained at one budget.
BUDGET_KEYS = ("size", "backbone", "epochs", "batch_size", "precision")
BUDGET_DATA_KEYS = ("samples_per_epoch", "crop_height", "crop_width")


# By entry, name of the frames, seed and figure.
FiguresOfRuns = dict[str, dict[str, dict[int, dict[str, float]]]]


@dataclass(frozen=True)
class ScoreRecipe:
    """Frames to score on, under a name for the table."""

    name: str
    frames: SourceRecipe


@dataclass(frozen=True)
class EntryRecipe:
    """One way of training: a recipe file, and what is changed in it, as `--override` does."""

    name: str
    recipe: Path
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComparisonRecipe:
    """What is compared.

    Attributes:
        name: also the name of the folder under `output`.
        entries: ways of training; the first is the baseline that the others are held against.
        seeds: every entry is trained once with each.
        scores: frames that all are scored on; those of drives that no entry trained on say most.
        teacher: checkpoint to score beside them; empty = none.
        overrides: for all entries, such as fewer epochs.
        input_height, input_width: network input for scoring.
        threads: of inference while scoring.
        output: folder of comparisons.
    """

    name: str
    entries: tuple[EntryRecipe, ...]
    seeds: tuple[int, ...]
    scores: tuple[ScoreRecipe, ...]
    teacher: str = ""
    overrides: tuple[str, ...] = ()
    input_height: int = field(default=384, metadata={"low": 32, "high": 8192})
    input_width: int = field(default=640, metadata={"low": 32, "high": 8192})
    threads: int = field(default=2, metadata={"low": 1, "high": 256})
    output: Path = Path("out/compare")

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        if len(names) < 2 or len(set(names)) < len(names):
            raise RecipeError(f"entries must be at least two, of different names, got {names}")
        unfit = [name for name in names if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name)]
        if unfit:
            raise RecipeError(f"names of entries become folders: letters, digits, _ and -, got {unfit}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RecipeError(f"seeds must be different whole numbers, at least one, got {list(self.seeds)}")
        if not self.scores:
            raise RecipeError("scores must name frames to score on, at least one")


@dataclass(frozen=True)
class PlannedRun:
    """One entry with one seed."""

    entry: str
    seed: int
    recipe: Recipe

    @property
    def checkpoint(self) -> Path:
        """Where its last weights are once it is finished."""
        return self.recipe.output / self.recipe.name / "checkpoints" / "last.ckpt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("comparison", type=Path, help="a file of training/comparisons/")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of it")
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--devices", default="1", help="how many, or a list such as 0,1")


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, score all, write the report; exit status 0, or 2 with one sentence."""
    comparison = load_section(arguments.comparison, ComparisonRecipe, arguments.override)
    runs = plan(comparison)
    check_inputs(comparison, runs)
    frames = {score.name: open_source(score.frames) for score in comparison.scores}
    for number, planned in enumerate(runs):
        print(f"\nrun {number + 1} of {len(runs)}: {planned.entry}, seed {planned.seed}", flush=True)
        finish(planned, arguments.accelerator, arguments.devices)
    results = {"entries": score_runs(comparison, runs, frames), "teacher": score_teacher(comparison, frames)}
    folder = comparison.output / comparison.name
    print("\n" + write_report(folder, comparison.name, [score.name for score in comparison.scores], results))
    print(f"\nreport and pictures: {folder}")
    return 0


def plan(comparison: ComparisonRecipe) -> list[PlannedRun]:
    """All runs, seed after seed, so that a comparison that is broken off has whole pairs.

    Raises:
        RecipeError: an entry's recipe is wrong, or its budget is not the baseline's.
    """
    recipes = {
        entry.name: load_recipe(entry.recipe, comparison.overrides + entry.overrides) for entry in comparison.entries
    }
    _check_budgets(recipes)
    output = comparison.output / comparison.name / "runs"
    runs = []
    for seed in comparison.seeds:
        for name, recipe in recipes.items():
            runs.append(PlannedRun(name, seed, replace(recipe, name=f"{name}_{seed}", seed=seed, output=output)))
    return runs


def check_inputs(comparison: ComparisonRecipe, runs: list[PlannedRun]) -> None:
    """Open every teacher and look at the data of every entry before the first of them is trained.

    Raises:
        CheckpointError, DataError: what would otherwise have ended the comparison hours later.
    """
    first_of_each = {planned.entry: planned.recipe for planned in reversed(runs)}
    teachers = {comparison.teacher, *(r.distillation.teacher for r in first_of_each.values() if r.distillation)}
    for teacher in sorted(teachers - {""}):
        read_checkpoint(Path(teacher))
    # Most entries share their data.
    for recipe in {(r.data, r.validation): r for r in first_of_each.values()}.values():
        DrivingData(recipe)


def _check_budgets(recipes: dict[str, Recipe]) -> None:
    (baseline_name, baseline), *others = recipes.items()
    for name, recipe in others:
        for key, ours, theirs in _budget(baseline, recipe):
            if ours != theirs:
                raise RecipeError(
                    f"{name}: expected the budget of {baseline_name}, {key} {ours}, got {theirs}; a comparison at "
                    "different budgets says nothing about the method"
                )


def _budget(one: Recipe, other: Recipe) -> Iterator[tuple[str, Any, Any]]:
    for key in BUDGET_KEYS:
        yield key, getattr(one, key), getattr(other, key)
    for key in BUDGET_DATA_KEYS:
        yield f"data.{key}", getattr(one.data, key), getattr(other.data, key)


def finish(planned: PlannedRun, accelerator: str, devices: str) -> None:
    """Train a run to its end: from the start, from where it stopped, or not at all."""
    resume = None
    if planned.checkpoint.is_file():
        notes = read_checkpoint(planned.checkpoint).get(INFO_KEY, {})
        # A run of an earlier version of the recipe is none of this comparison.
        if notes.get("recipe_sha256") == planned.recipe.sha256:
            if notes.get("epoch") == planned.recipe.epochs:
                print("finished before")
                return
            resume = planned.checkpoint
    with writing_to(planned.recipe.output / planned.recipe.name):
        train(planned.recipe, resume, accelerator, devices)


def score_runs(comparison: ComparisonRecipe, runs: list[PlannedRun], frames: dict[str, FrameFolder]) -> FiguresOfRuns:
    """Figures by entry, name of the frames and seed."""
    figures: FiguresOfRuns = {}
    for planned in runs:
        for name, folder in frames.items():
            found = _score(comparison, planned.checkpoint, folder)
            figures.setdefault(planned.entry, {}).setdefault(name, {})[planned.seed] = found
    return figures


def score_teacher(comparison: ComparisonRecipe, frames: dict[str, FrameFolder]) -> dict[str, dict[str, float]]:
    """The teacher's figures by name of the frames; empty without a teacher."""
    if not comparison.teacher:
        return {}
    return {name: _score(comparison, Path(comparison.teacher), folder) for name, folder in frames.items()}


def _score(comparison: ComparisonRecipe, checkpoint: Path, frames: FrameFolder) -> dict[str, float]:
    """Figures of a checkpoint, kept beside the comparison so that no frame is scored twice."""
    key = hashlib.sha256(checkpoint.read_bytes())
    key.update(f"{frames.fingerprint()} {comparison.input_height}x{comparison.input_width}".encode())
    path = comparison.output / comparison.name / "scores" / f"{key.hexdigest()[:24]}.json"
    if not path.is_file():
        model = open_model(checkpoint, "ema", comparison.input_height, comparison.input_width, comparison.threads)
        write_text(path, json.dumps(figures_of(evaluate(model, frames))) + "\n")
    figures: dict[str, float] = json.loads(path.read_text())
    return figures


def figures_of(results: dict[str, Any]) -> dict[str, float]:
    """What is compared, all 0..1: `miou`, and `ap50` over all and of each class that has boxes."""
    detection = results["detection"]
    figures = {"miou": results["miou"], "ap50": detection["ap50"]}
    figures |= {f"{name}_ap50": entry["ap50"] for name, entry in detection["per_class"].items()}
    return {name: float(value) for name, value in figures.items() if value is not None}
