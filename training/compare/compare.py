"""Run a comparison: train several recipes with one budget over several seeds, and score them.

Every run of the comparison is an ordinary run in a folder of its own. Finished runs are reused and stopped runs are
resumed, so a comparison can be stopped and started at any time.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from training.checkpoint import read_notes
from training.compare.inputs import check_inputs, find_overlaps
from training.compare.recipe import ComparisonRecipe, PlannedRun
from training.compare.report import write_report
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.errors import CheckpointError, writing_to
from training.evaluation.evaluate import evaluate, open_model
from training.run.devices import check_devices
from training.run.inputs import RunInputs
from training.run.run_files import folder_of
from training.run.train import train
from training.run.validation_figures import check_scored
from training.whole_files import write_text

Figures = dict[str, float | None]
# Indexed by entry, name of the frames, seed and figure.
FiguresOfRuns = dict[str, dict[str, dict[int, Figures]]]


def compare(comparison: ComparisonRecipe, runs: list[PlannedRun], accelerator: str, devices: str) -> None:
    """Train the missing runs, score all, and write the report."""
    check_devices(accelerator, devices)
    inputs = check_inputs(comparison, runs)
    warnings = find_overlaps(comparison, runs)
    for warning in warnings:
        print(warning, flush=True)
    classes = runs[0].recipe.student_classes()
    frames = {score.name: open_source(score.frames, classes) for score in comparison.scores}
    for name, source in frames.items():
        check_scored(f"scores {name}", source)
    for number, planned in enumerate(runs):
        print(f"\nrun {number + 1} of {len(runs)}: {planned.entry}, seed {planned.seed}", flush=True)
        finish(planned, inputs[planned.entry], accelerator, devices)
    results = {
        "entries": score_runs(comparison, runs, frames),
        "teacher": score_teacher(comparison, frames),
        "warnings": warnings,
    }
    folder = comparison.output / comparison.name
    print("\n" + write_report(folder, comparison.name, [score.name for score in comparison.scores], results))
    print(f"\nreport and pictures: {folder}")


def finish(planned: PlannedRun, inputs: RunInputs, accelerator: str, devices: str) -> None:
    """Train a run to its end: from the start or from its checkpoint. Do nothing if it is finished."""
    resume, anew = None, False
    if planned.checkpoint.is_file():
        notes = read_notes(planned.checkpoint)
        # A run of another recipe, or with changed files behind the same recipe, does not belong to this comparison.
        changed = (
            ["another recipe"] if notes.get("recipe_sha256") != planned.recipe.sha256 else inputs.differences(notes)
        )
        if changed:
            print(f"{planned.checkpoint} was trained with {' and '.join(changed)} than now: the run starts again")
            anew = True
        elif notes.get("epoch") == planned.recipe.epochs:
            print("finished before")
            return
        else:
            resume = planned.checkpoint
    with writing_to(folder_of(planned.recipe)):
        train(planned.recipe, resume, accelerator, devices, anew=anew)


def score_runs(comparison: ComparisonRecipe, runs: list[PlannedRun], frames: dict[str, FrameFolder]) -> FiguresOfRuns:
    """Return the figures by entry, name of the frames and seed."""
    figures: FiguresOfRuns = {}
    for planned in runs:
        for name, folder in frames.items():
            found = _score(comparison, planned.checkpoint, folder)
            figures.setdefault(planned.entry, {}).setdefault(name, {})[planned.seed] = found
    return figures


def score_teacher(comparison: ComparisonRecipe, frames: dict[str, FrameFolder]) -> dict[str, Figures]:
    """Return the teacher's figures by name of the frames; empty without a teacher."""
    if not comparison.teacher:
        return {}
    return {name: _score(comparison, Path(comparison.teacher), folder) for name, folder in frames.items()}


def _score(comparison: ComparisonRecipe, checkpoint: Path, frames: FrameFolder) -> Figures:
    """Return the figures of a checkpoint. They are cached beside the comparison, so that no frame is scored twice."""
    key = hashlib.sha256(checkpoint.read_bytes())
    key.update(f"{frames.fingerprint()} {comparison.input_height}x{comparison.input_width}".encode())
    path = comparison.output / comparison.name / "scores" / f"{key.hexdigest()[:24]}.json"
    if not path.is_file():
        model = open_model(checkpoint, "ema", comparison.input_height, comparison.input_width, comparison.threads)
        try:
            results = evaluate(model, frames)
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint}: {error}") from error
        write_text(path, json.dumps(figures_of(results), allow_nan=False) + "\n")
    # Earlier versions wrote NaN for a figure that the labels do not yield.
    figures: Figures = json.loads(path.read_text(), parse_constant=lambda name: None)
    return figures


def figures_of(results: dict[str, Any]) -> Figures:
    """Return the figures to compare, all 0..1.

    They are `miou`, and `ap50` over all classes and of each class. A figure that the labels cannot yield is None.
    """
    detection = results["detection"]
    figures = {"miou": results["miou"], "ap50": detection["ap50"]}
    return figures | {f"{name}_ap50": entry["ap50"] for name, entry in detection["per_class"].items()}
