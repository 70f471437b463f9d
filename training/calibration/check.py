"""See whether the thresholds in a file, fp32 or quantised, still find the share of the objects that they promise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.calibration.promise import found_objects
from training.calibration.recipe import CalibrationRecipe
from training.data.readers.registry import open_source
from training.evaluation.box_matching import BOX_SIZES
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
        unproved: Classes with a threshold of which no set has objects enough.
    """

    text: str
    broken: tuple[str, ...]
    unproved: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every threshold was checked on a set and broken on none."""
        return not self.broken and not self.unproved


def check_file(recipe: CalibrationRecipe, path: Path, keep: Path, output: Path | None = None) -> Checked:
    """Check the thresholds of a file on the frames of `check`.

    Args:
        recipe: Names the frames and the tolerance, and what is promised where the file does not say it.
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
    sizes = _sizes_of(confidence) or promised.sizes
    shares: dict[str, dict[str, float]] = {}
    errors: dict[str, float | None] = {}
    for each in recipe.check:
        frames = open_source(each.frames, model.label_set)
        records = keep_records(model.perceiver, model.contract, model.digest, frames, keep, f"boxes on {each.name}")
        boxes = confidence_of(records).boxes
        errors[each.name] = None if boxes is None else boxes.error
        objects = {
            name: found_objects(records, label, sizes) for label, name in enumerate(records.box_classes.tolist())
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
    unproved = tuple(name for name in thresholds if not any(name in by_class for by_class in shares.values()))
    if output is not None:
        content = {
            "coverage": coverage,
            "found": shares,
            "error_of_scores": errors,
            "broken": broken,
            "unproved": unproved,
        }
        write_text(output, json.dumps(content, indent=1, allow_nan=False) + "\n")
    text = _text(thresholds, shares, errors)
    return Checked(f"{text}\n\n{_verdict(path, coverage, thresholds, broken, unproved)}", broken, unproved)


def _sizes_of(confidence: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the sizes of the objects that a file promises to find; empty if it does not name them as `calibrate`."""
    sizes = tuple(str(confidence.get("objects", "")).split(", "))
    return sizes if set(sizes) <= set(BOX_SIZES) else ()


def _text(
    thresholds: dict[str, float],
    shares: dict[str, dict[str, float]],
    errors: dict[str, float | None],
) -> str:
    head = table_line(("frames", "scores are off by, points", *(f"{name} found, %" for name in thresholds)))
    rows = [
        table_line((where, percent(errors[where]), *(percent(by_class.get(name)) for name in thresholds)))
        for where, by_class in shares.items()
    ]
    return "\n".join([head, table_line(["---"] * (2 + len(thresholds))), *rows])


def _verdict(
    path: Path, coverage: float, thresholds: Mapping[str, float], broken: Sequence[str], unproved: Sequence[str]
) -> str:
    if not thresholds:
        return f"{path.name} promises nothing: it has no thresholds."
    promise = f"its promise of {percent(coverage)} %"
    said = [f"{path.name} breaks {promise}: {', '.join(broken)}."] if broken else []
    if unproved:
        said.append(
            f"{path.name} has no proof of {promise} for {', '.join(unproved)}: no set of check has objects enough; "
            "name more frames."
        )
    return " ".join(said) or f"{path.name} keeps {promise}."
