"""See whether the thresholds in a file, fp32 or quantised, still find the share of the objects that they promise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from training.calibration.promise import found_objects
from training.calibration.recipe import CalibrationRecipe
from training.data.readers.registry import open_source
from training.evaluation.confidence import confidence_of
from training.evaluation.frame_recorder import keep_records
from training.evaluation.models import open_model
from training.evaluation.wording import percent, table_line
from training.whole_files import write_text


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
        text: The report as Markdown.
        broken: Classes and sets on which a threshold finds less than it promises, less the tolerance.
    """

    text: str
    broken: tuple[str, ...]


def check_file(recipe: CalibrationRecipe, path: Path, keep: Path, output: Path | None = None) -> Checked:
    """Check the thresholds of a file on the frames of `check`.

    Args:
        recipe: Names the frames, the tolerance and the sizes of the objects.
        path: The file.
        keep: Folder of what was perceived.
        output: Where to write the shares as JSON; None = nowhere.

    Raises:
        ModelError, ModelFileError: The file cannot be run.
        OSError: The output cannot be written.
        RecipeError: A class of the frames maps to nothing in the classes of the file.
    """
    model = open_model(path, "ema", None, None, recipe.threads)
    confidence, promised = model.contract.confidence, recipe.promise
    thresholds: dict[str, float] = dict(confidence.get("thresholds", {}))
    coverage = float(confidence.get("coverage", promised.coverage))
    shares: dict[str, dict[str, float]] = {}
    errors: dict[str, float | None] = {}
    for each in recipe.check:
        frames = open_source(each.frames, model.label_set)
        records = keep_records(model.perceiver, model.contract, model.digest, frames, keep, f"boxes on {each.name}")
        boxes = confidence_of(records).boxes
        errors[each.name] = None if boxes is None else boxes.error
        objects = {
            name: found_objects(records, label, promised.sizes)
            for label, name in enumerate(records.box_classes.tolist())
        }
        shares[each.name] = {
            name: objects[name].share_at(threshold)
            for name, threshold in thresholds.items()
            if name in objects and objects[name].objects >= promised.least_objects
        }
    broken = tuple(
        f"{name} on {where}"
        for where, by_class in shares.items()
        for name, share in by_class.items()
        if share < coverage - promised.tolerance
    )
    if output is not None:
        content = {"coverage": coverage, "found": shares, "error_of_scores": errors, "broken": broken}
        write_text(output, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return Checked(_text(path, coverage, thresholds, shares, errors, broken), broken)


def _text(
    path: Path,
    coverage: float,
    thresholds: dict[str, float],
    shares: dict[str, dict[str, float]],
    errors: dict[str, float | None],
    broken: tuple[str, ...],
) -> str:
    head = table_line(("frames", "scores are off by, points", *(f"{name} found, %" for name in thresholds)))
    rows = [
        table_line((where, percent(errors[where]), *(percent(by_class.get(name)) for name in thresholds)))
        for where, by_class in shares.items()
    ]
    if not thresholds:
        verdict = f"{path.name} promises nothing: it has no thresholds."
    elif broken:
        verdict = f"{path.name} breaks its promise of {percent(coverage)} %: {', '.join(broken)}."
    else:
        verdict = f"{path.name} keeps its promise of {percent(coverage)} %."
    return "\n".join([head, table_line(["---"] * (2 + len(thresholds))), *rows, "", verdict])
