"""What a comparison is: its file, the runs that follow from it, and the budget that all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.config.names import FOLDER_NAME_RULE, is_folder_name
from training.config.reader import load_recipe
from training.config.recipe import UNLABELED_KINDS, Recipe, SourceRecipe, check_input_size
from training.errors import RecipeError
from training.run.run_files import last_checkpoint_of

# What two recipes must have in common to be trained at one budget, and so must what they start from: a better start is
# budget spent before. Sources and their shares are free, for entries may differ by the frames that only a teacher sees.
BUDGET_KEYS = ("size", "backbone", "epochs", "batch_size", "precision", "initial_weights", "trained_part")
BUDGET_DATA_KEYS = ("samples_per_epoch", "crop_height", "crop_width")


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
    seeds: tuple[int, ...] = field(metadata={"low": 0, "high": 2**63 - 1})
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
        unfit = [name for name in (self.name, *names) if not is_folder_name(name)]
        if unfit:
            raise RecipeError(
                f"the names of a comparison and its entries become folders: expected {FOLDER_NAME_RULE}, got {unfit}"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RecipeError(f"seeds must be different whole numbers, at least one, got {list(self.seeds)}")
        scored = [score.name for score in self.scores]
        if not scored or len(set(scored)) < len(scored):
            raise RecipeError(f"scores must name frames to score on, at least one, by different names, got {scored}")
        without = [score.name for score in self.scores if score.frames.kind in UNLABELED_KINDS]
        if without:
            raise RecipeError(f"scores must be of frames with labels, {', '.join(without)} has none; name others")
        check_input_size(self.input_height, self.input_width, "input_height and input_width")


@dataclass(frozen=True)
class PlannedRun:
    """One entry with one seed."""

    entry: str
    seed: int
    recipe: Recipe

    @property
    def checkpoint(self) -> Path:
        """Where its last weights are once it is finished."""
        return last_checkpoint_of(self.recipe)


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


def _check_budgets(recipes: dict[str, Recipe]) -> None:
    (baseline_name, baseline), *others = recipes.items()
    for name, recipe in others:
        for key, ours, theirs in _budget(baseline, recipe):
            if ours != theirs:
                raise RecipeError(
                    f"{name}: expected the budget of {baseline_name}, {key} {ours or 'none'}, got {theirs or 'none'}; "
                    "a comparison at different budgets says nothing about the method"
                )


def _budget(one: Recipe, other: Recipe) -> Iterator[tuple[str, Any, Any]]:
    for key in BUDGET_KEYS:
        yield key, getattr(one, key), getattr(other, key)
    for key in BUDGET_DATA_KEYS:
        yield f"data.{key}", getattr(one.data, key), getattr(other.data, key)
