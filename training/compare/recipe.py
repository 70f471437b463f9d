"""The recipe of a comparison, the runs that follow from it, and the budget that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from training.config.names import FOLDER_NAME_RULE, is_folder_name
from training.config.network_input import check_input_size
from training.config.settings import PathText, Settings
from training.data.readers.registry import AnySource
from training.errors import RecipeError
from training.label_sets.label_set import LabelSet
from training.recipe import Recipe, load_recipe
from training.run.present_sources import with_present_sources
from training.run.run_files import last_checkpoint_of

# Keys that must agree for two recipes to have one budget. The initial weights are among them: a better start is budget
# that was spent before. Sources and their shares may differ, since entries may differ by frames without labels.
BUDGET_KEYS = ("size", "backbone", "epochs", "batch_size", "precision", "initial_weights", "trained_part")
BUDGET_DATA_KEYS = ("samples_per_epoch", "crop_height", "crop_width")


class ScoreRecipe(Settings):
    """Frames to score all runs on."""

    name: str
    """Name of the frames in the report."""
    frames: AnySource
    """Source of labelled frames."""


class EntryRecipe(Settings):
    """One way of training."""

    name: str
    """Name of the entry in the report, and of its runs with the seed after it."""
    recipe: PathText
    """Recipe file, relative to the working directory."""
    overrides: tuple[str, ...] = ()
    """Changes of the recipe as `key=value`, like `--override`."""


class ComparisonRecipe(Settings):
    """A comparison: several ways of training, each repeated with several seeds, at one budget."""

    name: str
    """Name of the comparison, and of its folder under `output`."""
    entries: tuple[EntryRecipe, ...]
    """Ways of training; the others are compared with the first, the baseline."""
    seeds: tuple[Annotated[int, Field(ge=0, le=2**63 - 1)], ...]
    """Every entry is trained once with each seed."""
    scores: tuple[ScoreRecipe, ...]
    """Frames that all runs are scored on. Those of drives that no entry was trained on are the most telling."""
    teacher: str = ""
    """Checkpoint of a teacher to score beside the runs; empty = none."""
    shown_classes: tuple[str, ...] = ()
    """Classes of boxes whose AP50 the report shows beside the means."""
    overrides: tuple[str, ...] = ()
    """Changes of all entries as `key=value`, such as fewer epochs."""
    input_height: Annotated[int, Field(ge=32, le=8192)] = 384
    """Height of the network's input for scoring in pixels, a multiple of 32."""
    input_width: Annotated[int, Field(ge=32, le=8192)] = 640
    """Width of the network's input for scoring in pixels, a multiple of 32."""
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    """Threads of inference for scoring."""
    output: PathText = Path("out/compare")
    """Folder of comparisons."""

    @model_validator(mode="after")
    def _check_names(self) -> ComparisonRecipe:
        names = [entry.name for entry in self.entries]
        if len(names) < 2 or len(set(names)) < len(names):
            raise RecipeError(f"expected at least two entries with different names, got {names}; add or rename entries")
        unfit = [name for name in (self.name, *names) if not is_folder_name(name)]
        if unfit:
            raise RecipeError(
                f"the names of a comparison and its entries become folders: expected {FOLDER_NAME_RULE}, got {unfit}"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RecipeError(f"seeds must be different whole numbers, at least one, got {list(self.seeds)}")
        return self

    @model_validator(mode="after")
    def _check_scores(self) -> ComparisonRecipe:
        scored = [score.name for score in self.scores]
        if not scored or len(set(scored)) < len(scored):
            raise RecipeError(f"scores must have at least one entry, with different names, got {scored}")
        without = [score.name for score in self.scores if not score.frames.labeled]
        if without:
            raise RecipeError(f"scores must be of frames with labels, {', '.join(without)} has none; name others")
        check_input_size(self.input_height, self.input_width, "input_height and input_width")
        return self


@dataclass(frozen=True)
class PlannedRun:
    """A run of one entry with one seed."""

    entry: str
    seed: int
    recipe: Recipe

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that holds its last weights once it is finished."""
        return last_checkpoint_of(self.recipe)


def plan(comparison: ComparisonRecipe) -> list[PlannedRun]:
    """Return all runs, seed after seed: a comparison that is stopped then has scores of all entries for some seeds.

    Raises:
        RecipeError: The recipe of an entry is not valid, its budget or label set differs from that of the
            baseline, or it does not have a class that the report should show.
    """
    recipes = {
        entry.name: with_present_sources(load_recipe(entry.recipe, comparison.overrides + entry.overrides))
        for entry in comparison.entries
    }
    _check_budgets(recipes)
    _check_label_sets(recipes)
    _check_shown(comparison.shown_classes, next(iter(recipes.values())).student_classes())
    output = comparison.output / comparison.name / "runs"
    runs = []
    for seed in comparison.seeds:
        for name, recipe in recipes.items():
            runs.append(PlannedRun(name, seed, recipe.replace(name=f"{name}_{seed}", seed=seed, output=output)))
    return runs


def _check_budgets(recipes: dict[str, Recipe]) -> None:
    """Refuse entries with another budget than the first."""
    (baseline_name, baseline), *others = recipes.items()
    for name, recipe in others:
        for key, ours, theirs in _budget(baseline, recipe):
            if ours != theirs:
                raise RecipeError(
                    f"{name}: expected the budget of {baseline_name}, {key} {ours or 'none'}, got {theirs or 'none'}; "
                    "a comparison at different budgets says nothing about the method"
                )


def _check_label_sets(recipes: dict[str, Recipe]) -> None:
    """Refuse entries with other classes than the first."""
    (baseline_name, baseline), *others = recipes.items()
    expected = baseline.student_classes()
    for name, recipe in others:
        found = recipe.student_classes()
        if found != expected:
            raise RecipeError(
                f"{name}: expected the label set of {baseline_name}, {expected.name}, got {found.name}; figures of "
                "different classes cannot be compared, so give all entries one label_set"
            )


def _check_shown(shown: tuple[str, ...], label_set: LabelSet) -> None:
    """Refuse to show classes that the students do not have."""
    names = [info.name for info in label_set.detection_classes]
    strange = sorted(set(shown) - set(names))
    if strange:
        raise RecipeError(
            f"shown_classes: expected classes of boxes of {label_set.name} ({', '.join(names) or 'it has none'}), "
            f"got {', '.join(strange)}; correct or remove them"
        )


def _budget(one: Recipe, other: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Yield each key of the budget with its values in both recipes."""
    for key in BUDGET_KEYS:
        yield key, getattr(one, key), getattr(other, key)
    for key in BUDGET_DATA_KEYS:
        yield f"data.{key}", getattr(one.data, key), getattr(other.data, key)
