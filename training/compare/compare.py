"""Run a comparison: train several recipes with one budget over several seeds, and score them.

Every run of the comparison is an ordinary run in a folder of its own. Finished runs are reused and stopped runs are
resumed, so a comparison can be stopped and started at any time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from training.compare.entry_teachers import judge_teachers
from training.compare.inputs import check_inputs, find_overlaps
from training.compare.kept_results import KeptResults
from training.compare.recipe import ComparisonRecipe, PlannedRun
from training.compare.report import write_report
from training.compare.teacher_report import following_warnings
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.errors import CheckpointError
from training.evaluation.evaluate import evaluate
from training.evaluation.models import open_model
from training.run.devices import check_devices
from training.run.finish import finish_run
from training.run.validation_figures import check_scored

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
        finish_run(planned.recipe, inputs[planned.entry], accelerator, devices)
    judged = judge_teachers(comparison, runs, frames, _device(accelerator))
    scores = list(frames)
    results = {
        "shown_classes": list(comparison.shown_classes),
        "entries": score_runs(comparison, runs, frames),
        "teacher": score_teacher(comparison, frames),
        "teachers": judged,
        "warnings": [*warnings, *following_warnings(scores, judged)],
    }
    folder = comparison.output / comparison.name
    print("\n" + write_report(folder, comparison.name, scores, results))
    print(f"\nreport and pictures: {folder}")


def _device(accelerator: str) -> str:
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


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
    """Return the figures of a checkpoint."""

    def score() -> Figures:
        model = open_model(checkpoint, "ema", comparison.input_height, comparison.input_width, comparison.threads)
        try:
            return figures_of(evaluate(model, frames))
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint}: {error}") from error

    figures: Figures = KeptResults(comparison).of_checkpoint(checkpoint, frames.fingerprint(), score)
    return figures


def figures_of(results: dict[str, Any]) -> Figures:
    """Return the figures to compare, all 0..1.

    They are `miou`, and `ap50` over all classes and of each class. A figure that the labels cannot yield is None; one
    of a task that the model does not do is absent.
    """
    figures: Figures = {"miou": results["miou"]} if "miou" in results else {}
    if "detection" in results:
        detection = results["detection"]
        figures["ap50"] = detection["ap50"]
        figures |= {f"{name}_ap50": entry["ap50"] for name, entry in detection["per_class"].items()}
    return figures
