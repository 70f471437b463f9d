"""Measure the models of a report on all sets of frames, and choose the frames that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.conditions.condition import named
from training.conditions.figures import Robustness
from training.conditions.measure import Network, RenderedFrames
from training.conditions.measure import measure as measure_conditions
from training.conditions.table import CONDITIONS
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.errors import CheckpointError, DataError, RecipeError
from training.evaluation.bootstrap import iou_values, mean_of
from training.evaluation.confidence import Confidence, confidence_of
from training.evaluation.coverage import not_scored, not_scored_lines
from training.evaluation.frame_recorder import keep_records
from training.evaluation.frame_records import FrameRecords
from training.evaluation.models import EvaluatedModel, open_model
from training.evaluation.score_figures import ScoreFigures, score_figures
from training.report.recipe import ReportRecipe, StabilityRecipe
from training.stability.figures import Stability
from training.stability.measure import measure as measure_stability
from training.stability.rendered_drive import RenderedDrive

MODEL, BASELINE = "model", "baseline"


@dataclass(frozen=True)
class MeasuredFrames:
    """All models on one set of frames.

    Attributes:
        name: Name of the set.
        frames: The frames, with labels in the classes of the model.
        records: Counts of each frame, by the name of the row.
        figures: Figures with intervals and differences to the first row, by the name of the row.
        confidence: How far scores and uncertainty of the model can be trusted.
        worst, best: Places of frames, the worst and the best first.
        exact_boxes: Whether the true boxes are exact.
    """

    name: str
    frames: FrameFolder
    records: dict[str, FrameRecords]
    figures: dict[str, ScoreFigures]
    confidence: Confidence
    worst: tuple[int, ...]
    best: tuple[int, ...]
    exact_boxes: bool

    @property
    def unscored(self) -> list[str]:
        """Sentences about classes that are not scored."""
        return [line for line in not_scored_lines(not_scored(self.frames.mapping)) if line]


@dataclass(frozen=True)
class Measured:
    """What a report is about.

    Attributes:
        recipe: Its recipe.
        models: The models, by the name of the row.
        sets: All models on each set of frames.
        robustness: Model and baseline in harder conditions; None if they were not asked for.
        stability: All models over time; None if it was not asked for.
    """

    recipe: ReportRecipe
    models: dict[str, EvaluatedModel]
    sets: tuple[MeasuredFrames, ...]
    robustness: Robustness | None = None
    stability: Stability | None = None

    @property
    def model(self) -> EvaluatedModel:
        """The model that the report is about."""
        return self.models[MODEL]


def open_models(recipe: ReportRecipe) -> dict[str, EvaluatedModel]:
    """Open all models of a report on the CPU.

    Raises:
        CheckpointError, ModelError, RecipeError: A file cannot be used.
    """
    return {name: open_model(path, "ema", None, None, recipe.threads) for name, path in recipe.models.items()}


def measure(recipe: ReportRecipe, models: Mapping[str, EvaluatedModel], keep: Path) -> Measured:
    """Run all models on all frames.

    Args:
        recipe: Recipe of the report.
        models: Its models.
        keep: Folder of what was perceived. Frames that a model has seen before are not run again.

    Raises:
        CheckpointError: The outputs of a network contain NaN or infinity.
        DataError: A set of frames has no label of a class of the model.
        RecipeError: A class of the frames maps to nothing in the classes of a model.
    """
    student = models[MODEL].label_set
    sources = {score.name: open_source(score.frames, student) for score in recipe.frames}
    for name, source in sources.items():
        if not source.counts.any_pixels and not source.counts.any_boxes:
            raise DataError(f"frames {name}: expected labels of the classes of {recipe.model}, there are none")
    exact = {score.name: score.frames.exact_boxes for score in recipe.frames}
    sets = (_measured(recipe, models, name, source, keep, exact[name]) for name, source in sources.items())
    return Measured(
        recipe, dict(models), tuple(sets), _robustness(recipe, models, keep), _stability(recipe.stability, models)
    )


def _stability(asked: StabilityRecipe | None, models: Mapping[str, EvaluatedModel]) -> Stability | None:
    if asked is None:
        return None
    drives = [
        RenderedDrive(asked.seed + number, asked.weather, asked.seconds, asked.rate_hz)
        for number in range(asked.drives)
    ]
    return measure_stability(models, drives, (), asked.object_height_px).stability


def _robustness(recipe: ReportRecipe, models: Mapping[str, EvaluatedModel], keep: Path) -> Robustness | None:
    asked = recipe.conditions
    if asked is None:
        return None
    (source,) = (score.frames for score in recipe.frames if score.name == asked.frames)
    frames = open_source(source.model_copy(update={"limit": asked.limit}), models[MODEL].label_set)
    networks = [Network(name, recipe.models[name], models[name]) for name in (MODEL, BASELINE) if name in models]
    known = {name for each in CONDITIONS for name in (each.family, each.name)}
    if unknown := [name for name in asked.only if name not in known]:
        raise RecipeError(f"conditions.only: expected names of {', '.join(sorted(known))}, got {unknown[0]!r}")
    conditions, severities = named(CONDITIONS, asked.only), sorted({*asked.severities})
    return measure_conditions(networks, frames, conditions, severities, keep / "conditions", RenderedFrames(0, 0))


def _measured(
    recipe: ReportRecipe, models: Mapping[str, EvaluatedModel], name: str, source: FrameFolder, keep: Path, exact: bool
) -> MeasuredFrames:
    records = {}
    for row, model in models.items():
        frames, title = source.for_student(model.label_set), f"{row} on {name}"
        try:
            records[row] = keep_records(model.perceiver, model.contract, model.digest, frames, keep, title)
        except CheckpointError as error:
            raise CheckpointError(f"{recipe.models[row]}: {error}") from error
    own = records[MODEL]
    order = np.argsort(frame_scores(own), kind="stable").tolist()
    shown = min(recipe.shown_frames, len(order) // 2)
    return MeasuredFrames(
        name,
        source,
        records,
        score_figures(records),
        confidence_of(own),
        tuple(order[:shown]),
        tuple(order[::-1][:shown]),
        exact,
    )


def frame_scores(records: FrameRecords) -> NDArray[np.float64]:
    """Return a score 0..1 of each frame: the mean of the IoU of its masks, and of the F1 of its boxes at IoU 0.5.

    A frame without any label has the score 1.
    """
    each = np.eye(records.frames, dtype=np.int64)
    parts = [np.full(records.frames, np.nan)] * 2
    if len(records.mask_classes):
        # Classes that are not in a frame do not count there, however small what was taken for them is.
        there = records.confusion.sum(axis=2) > 0
        parts[0] = mean_of(np.where(there, iou_values(records, each), np.nan))
    if len(records.box_classes):
        parts[1] = _box_scores(records)
    scores: NDArray[np.float64] = np.nan_to_num(mean_of(np.stack(parts, axis=1)), nan=1.0)
    return scores


def _box_scores(records: FrameRecords, least_score: float = 0.3) -> NDArray[np.float64]:
    """Return the F1 of the boxes of each frame; NaN for a frame without true and without reported boxes."""
    reported = (records.score >= least_score) & ~records.ignored[0]
    found = np.bincount(records.frame[reported], minlength=records.frames)
    right = np.bincount(records.frame[reported & records.hits[0]], minlength=records.frames)
    true = records.true_boxes.sum(axis=1)
    total = found + true
    scores: NDArray[np.float64] = np.divide(2.0 * right, total, out=np.full(records.frames, np.nan), where=total > 0)
    return scores
