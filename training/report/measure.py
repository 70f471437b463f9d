"""Measure the models of a report on all sets of frames, and choose the frames that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.structures import UInt8Array
from training.compare.recipe import ScoreRecipe
from training.conditions.choice import chosen_conditions
from training.conditions.figures import Robustness
from training.conditions.measure import Network, RenderedFrames
from training.conditions.measure import measure as measure_conditions
from training.data.readers.bag import BagSource
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.data.readers.source import Source
from training.errors import CheckpointError, DataError
from training.evaluation.agreement import SeenFrames, agree_side_by_side
from training.evaluation.bag_frames import frames_of_bag
from training.evaluation.bootstrap import iou_values, mean_of
from training.evaluation.confidence import Confidence, confidence_of
from training.evaluation.coverage import not_scored, not_scored_lines
from training.evaluation.frame_recorder import keep_records
from training.evaluation.frame_records import FrameRecords
from training.evaluation.memory import Memory, MemoryRequest, memory_of
from training.evaluation.models import EvaluatedModel, open_model
from training.evaluation.score_figures import ScoreFigures, score_figures
from training.report.recipe import ReportRecipe, StabilityRecipe, has_labels
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
        teachers: Name of the file of the teachers that labelled the frames; empty for other labels.
    """

    name: str
    frames: FrameFolder
    records: dict[str, FrameRecords]
    figures: dict[str, ScoreFigures]
    confidence: Confidence
    worst: tuple[int, ...]
    best: tuple[int, ...]
    exact_boxes: bool
    teachers: str = ""

    @property
    def unscored(self) -> list[str]:
        """Sentences about classes that are not scored."""
        return [line for line in not_scored_lines(not_scored(self.frames.mapping)) if line]


@dataclass(frozen=True)
class AgreedFrames:
    """All models on one set of frames without labels.

    Attributes:
        name: Name of the set.
        folder: Name of the bag or folder.
        frames: Number of frames.
        seen: What each model saw, by the name of the row; the others are compared with the model.
    """

    name: str
    folder: str
    frames: int
    seen: dict[str, SeenFrames]


@dataclass(frozen=True)
class Measured:
    """What a report is about.

    Attributes:
        recipe: Its recipe.
        models: The models, by the name of the row.
        sets: All models on each set of frames with labels.
        robustness: Model and baseline in harder conditions; None if they were not asked for.
        agreed: All models on each set of frames without labels.
        stability: All models over time; None if it was not asked for.
        memory: Memory of each model, by the name of the row; empty if it was not asked for.
    """

    recipe: ReportRecipe
    models: dict[str, EvaluatedModel]
    sets: tuple[MeasuredFrames, ...]
    robustness: Robustness | None = None
    agreed: tuple[AgreedFrames, ...] = ()
    stability: Stability | None = None
    memory: Mapping[str, Memory] = field(default_factory=dict)

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
    labeled = [score for score in recipe.frames if has_labels(score)]
    settings = {score.name: _settings(score) for score in labeled}
    sources = {name: open_source(each, student) for name, each in settings.items()}
    for name, source in sources.items():
        if not source.counts.any_pixels and not source.counts.any_boxes:
            raise DataError(f"frames {name}: expected labels of the classes of {recipe.model}, there are none")
    sets = tuple(_measured(recipe, models, score, sources[score.name], keep) for score in labeled)
    agreed = tuple(_agreed(models, score) for score in recipe.frames if not has_labels(score))
    robustness, stability = _robustness(recipe, models, settings, keep), _stability(recipe.stability, models)
    memory = _memory(recipe, next(iter(sources.values()))[0].image_bgr) if recipe.memory else {}
    return Measured(recipe, dict(models), sets, robustness, agreed, stability, memory)


def _memory(recipe: ReportRecipe, image_bgr: UInt8Array) -> dict[str, Memory]:
    return {
        name: memory_of(MemoryRequest(str(path), "ema", None, None, recipe.threads, "cpu"), image_bgr)
        for name, path in recipe.models.items()
    }


def _stability(asked: StabilityRecipe | None, models: Mapping[str, EvaluatedModel]) -> Stability | None:
    if asked is None:
        return None
    drives = [
        RenderedDrive(asked.seed + number, asked.weather, asked.seconds, asked.rate_hz)
        for number in range(asked.drives)
    ]
    return measure_stability(models, drives, (), asked.object_height_px).stability


def _settings(score: ScoreRecipe) -> Source:
    """Return the settings of the frames; those of a bag are taken out of it first."""
    return frames_of_bag(score.frames) if isinstance(score.frames, BagSource) else score.frames


def _agreed(models: Mapping[str, EvaluatedModel], score: ScoreRecipe) -> AgreedFrames:
    settings = _settings(score)
    frames = settings.open(settings.mapping_to(None))
    in_order = {name: models[name] for name in sorted(models, key=lambda name: name != MODEL)}
    return AgreedFrames(score.name, score.frames.folder.name, len(frames), agree_side_by_side(in_order, frames))


def _robustness(
    recipe: ReportRecipe, models: Mapping[str, EvaluatedModel], settings: Mapping[str, Source], keep: Path
) -> Robustness | None:
    asked = recipe.conditions
    if asked is None:
        return None
    source = settings[asked.frames]
    limit = min(asked.limit, source.limit or asked.limit)  # they are frames of the set, which may be a part of a folder
    frames = open_source(source.model_copy(update={"limit": limit}), models[MODEL].label_set)
    networks = [Network(name, recipe.models[name], models[name]) for name in (MODEL, BASELINE) if name in models]
    conditions = chosen_conditions(asked.only, asked.rendered, "conditions.only", "conditions.rendered: ")
    severities, rendered = sorted({*asked.severities}), RenderedFrames(asked.rendered, asked.seed)
    return measure_conditions(networks, frames, conditions, severities, keep / "conditions", rendered)


def _measured(
    recipe: ReportRecipe, models: Mapping[str, EvaluatedModel], score: ScoreRecipe, source: FrameFolder, keep: Path
) -> MeasuredFrames:
    records, name = {}, score.name
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
        score.frames.exact_boxes,
        score.frames.teachers.name if isinstance(score.frames, BagSource) and score.frames.teachers else "",
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
