"""Check a comparison before its first run: whether all runs can start, and whether scored frames were trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from training.checkpoint import INFO_KEY, load_student, read_checkpoint
from training.compare.recipe import ComparisonRecipe, PlannedRun
from training.data.readers.source import Source
from training.errors import CheckpointError, DataError, RecipeError
from training.recipe import Recipe, parse_noted_recipe
from training.run.frames import RunFrames
from training.run.inputs import RunInputs
from training.run.lightning_module import StudentTraining


def check_inputs(comparison: ComparisonRecipe, runs: Sequence[PlannedRun]) -> dict[str, RunInputs]:
    """Open all data of the entries and build each entry once, including teacher and start.

    Returns:
        The inputs of the runs by entry.

    Raises:
        CheckpointError, DataError, RecipeError: An error that would otherwise end the comparison hours later.
    """
    if comparison.teacher:
        _check_teacher(comparison.teacher, runs[0].recipe)
    fingerprints: dict[object, str] = {}  # most entries share their data, which take time to read
    inputs = {}
    for entry, recipe in _recipe_of_each(runs).items():
        data = (recipe.data, recipe.validation)
        if data not in fingerprints:
            fingerprints[data] = RunFrames(recipe).fingerprint
        inputs[entry] = StudentTraining(recipe, 1, fingerprints[data]).inputs
    return inputs


def _check_teacher(checkpoint: str, recipe: Recipe) -> None:
    """Refuse a teacher whose figures would be of other classes than those of the runs."""
    found, expected = load_student(checkpoint)[1].classes, recipe.student_classes()
    names = [[[info.name for info in task] for task in each.by_task.values()] for each in (found, expected)]
    if names[0] != names[1]:
        raise RecipeError(
            f"teacher: expected the classes of the runs, {expected.name}, {checkpoint} has {found.name}; leave it out, "
            "since the teachers of the entries are scored in the classes of the runs, whatever their own are"
        )


def find_overlaps(comparison: ComparisonRecipe, runs: Sequence[PlannedRun]) -> list[str]:
    """Return a sentence for every set of scored frames that a network of the comparison was trained on.

    Teachers and starts are followed back as far as their checkpoints exist and contain the recipe that trained them.
    Two frames are the same if they are the same file.
    """
    trained_on: dict[str, set[Path]] = {}
    listed: dict[Source, set[Path]] = {}
    for who, source in _sources(comparison, runs):
        if source not in listed:
            listed[source] = _files(source)
        trained_on.setdefault(who, set()).update(listed[source])
    warnings = []
    for score in comparison.scores:
        frames = _files(score.frames)
        for who, seen in trained_on.items():
            if frames & seen:
                warnings.append(
                    f"WARNING: {len(frames & seen)} of the {len(frames)} frames of {score.name} are frames that {who} "
                    "was trained on, which flatters it; score on others, or leave them out there"
                )
    return warnings


def _recipe_of_each(runs: Sequence[PlannedRun]) -> dict[str, Recipe]:
    return {planned.entry: planned.recipe for planned in runs}


def _sources(comparison: ComparisonRecipe, runs: Sequence[PlannedRun]) -> Iterator[tuple[str, Source]]:
    """Yield who was, or will be, trained on which frames."""
    ahead = [comparison.teacher]
    for entry, recipe in _recipe_of_each(runs).items():
        yield from ((f"entry {entry}", source) for source in recipe.data.train if source.share > 0)
        ahead += _checkpoints_of(recipe)
    visited = {""}
    while ahead:
        checkpoint = ahead.pop(0)
        if checkpoint not in visited:
            visited.add(checkpoint)
            noted = _noted_recipe(Path(checkpoint))
            if noted is not None:
                yield from ((checkpoint, source) for source in noted.data.train if source.share > 0)
                ahead += _checkpoints_of(noted)


def _checkpoints_of(recipe: Recipe) -> list[str]:
    """Return the checkpoints from which a run starts and learns."""
    return [*recipe.starts, *(recipe.distillation.checkpoints if recipe.distillation else ())]


def _noted_recipe(checkpoint: Path) -> Recipe | None:
    """Return the recipe in a checkpoint; None if the file is missing or this version cannot read its recipe."""
    try:
        return parse_noted_recipe(str(read_checkpoint(checkpoint)[INFO_KEY]["recipe"]))
    except (CheckpointError, RecipeError, KeyError, TypeError):
        return None


def _files(source: Source) -> set[Path]:
    """Return the image files of a source; none if its folder is missing, or if its frames are not files."""
    try:
        return {path.resolve() for path in source.image_files()}
    except DataError:
        return set()
