"""Judges the teachers of a comparison: their own figures, and how far their students follow their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ros_kd_perception.structures import Frame
from training.compare.error_following import NOTHING, ErrorCounts, count_boxes, count_pixels
from training.compare.kept_results import KeptResults
from training.compare.recipe import ComparisonRecipe, PlannedRun
from training.compare.teacher_answers import TeacherAnswers
from training.data.readers.frame_folder import FrameFolder
from training.distillation.settings import DistillationRecipe
from training.evaluation.metrics import DetectionMetrics, SegmentationMetrics
from training.evaluation.models import open_model
from training.evaluation.scoring import SCORE_FLOOR
from training.teachers.settings import TeacherSettings

Figures = dict[str, float | None]
TASKS = ("pixels", "boxes")


def groups_of(distillation: DistillationRecipe) -> dict[str, tuple[TeacherSettings, ...]]:
    """Return the teachers of a recipe together, and each of several alone, by their names in the report."""
    teachers = distillation.all_teachers
    if len(teachers) == 1:
        return {teachers[0].name: teachers}
    alone = {f"{number}: {settings.name}": (settings,) for number, settings in enumerate(teachers)}
    return {f"all {len(teachers)} teachers": teachers, **alone}


def judge_teachers(
    comparison: ComparisonRecipe, runs: Sequence[PlannedRun], frames: dict[str, FrameFolder], device: str
) -> dict[str, Any]:
    """Return what the report says about teachers, by the entries that have some.

    Args:
        comparison: The comparison.
        runs: Its runs, all finished.
        frames: The frames of each score, in the classes of the students.
        device: Device of teachers that run in PyTorch.

    Returns:
        By entry: `teachers`: figures by name of the teacher and name of the frames, the teachers together first;
        `following`: by name of the frames, seed, and who (`student`, and `baseline` if an entry has no teachers):
        `pixels` and `boxes` as `ErrorCounts.to_json`.
    """
    recipes = {planned.entry: planned.recipe for planned in runs}
    baseline = [entry for entry, recipe in recipes.items() if not recipe.has_teachers][:1]
    found: dict[str, Any] = {}
    for entry, recipe in recipes.items():
        if recipe.distillation is not None and recipe.has_teachers:
            followers = dict(zip(("student", "baseline"), [entry, *baseline], strict=False))
            followed = {
                planned.seed: {
                    who: each.checkpoint
                    for who, name in followers.items()
                    for each in runs
                    if (each.entry, each.seed) == (name, planned.seed)
                }
                for planned in runs
                if planned.entry == entry
            }
            found[entry] = _judge_entry(comparison, recipe.distillation, followed, frames, device)
    return found


def _judge_entry(
    comparison: ComparisonRecipe,
    distillation: DistillationRecipe,
    checkpoints: Mapping[int, Mapping[str, Path]],
    frames: Mapping[str, FrameFolder],
    device: str,
) -> dict[str, Any]:
    """Judge the teachers of an entry. The checkpoints are those of student and baseline, by seed."""
    kept = KeptResults(comparison)
    found: dict[str, Any] = {"teachers": {}, "following": {}}
    for name, teachers in groups_of(distillation).items():
        figures = found["teachers"].setdefault(name, {})
        for score, folder in frames.items():
            answers = TeacherAnswers(teachers, distillation.fusion, folder, kept.folder / "teachers", device)
            figures[score] = teacher_figures(answers, folder)
            if score not in found["following"]:  # the first group is all teachers together, by which the student learnt
                found["following"][score] = {
                    seed: {who: _following(comparison, kept, path, answers) for who, path in by_who.items()}
                    for seed, by_who in checkpoints.items()
                }
    return found


def teacher_figures(answers: TeacherAnswers, frames: FrameFolder) -> Figures:
    """Return the figures of teachers, 0..1, over the classes that they know; None for what the labels do not yield."""
    student = frames.mapping.student
    segmentation = SegmentationMetrics(len(student.segmentation_classes))
    detection = DetectionMetrics([info.name for info in student.detection_classes])
    for sample, answer in answers:
        segmentation.update(answer.mask, sample.mask, sample.labeled_pixels)
        detection.update(answer.boxes, sample, SCORE_FLOOR)
    boxes = detection.results()
    figures: Figures = {"miou": segmentation.mean_iou(), "ap50": boxes["ap50"]}
    return figures | {f"{name}_ap50": entry["ap50"] for name, entry in boxes["per_class"].items()}


def _following(
    comparison: ComparisonRecipe, kept: KeptResults, checkpoint: Path, answers: TeacherAnswers
) -> dict[str, Any]:
    def count() -> dict[str, Any]:
        return _count_followed(comparison, checkpoint, answers)

    found: dict[str, Any] = kept.of_checkpoint(checkpoint, f"errors of {answers.key}", count)
    return found


def _count_followed(comparison: ComparisonRecipe, checkpoint: Path, answers: TeacherAnswers) -> dict[str, Any]:
    """Run a student on all frames, and count the errors of its teachers that it makes, too."""
    model = open_model(checkpoint, "ema", comparison.input_height, comparison.input_width, comparison.threads)
    contract = model.contract
    pixels = ErrorCounts.none(tuple(info.name for info in contract.segmentation_classes))
    boxes = ErrorCounts.none((*(info.name for info in contract.detection_classes), NOTHING))
    for sample, answer in answers:
        seen = model.perceiver.perceive([Frame("comparison", 0, "", np.ascontiguousarray(sample.image_bgr))])[0]
        if seen.class_map is not None:
            count_pixels(pixels, sample, answer, seen.class_map)
        if seen.detections is not None:
            reported = seen.detections.at_least(max(contract.score_threshold, SCORE_FLOOR))
            count_boxes(boxes, sample, answer, answers.box_sure, reported)
    return dict(zip(TASKS, (pixels.to_json(), boxes.to_json()), strict=True))
