"""Fit temperature, scales and thresholds to frames, and see on other frames what of them holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from ros_kd_perception.perceiver import Perceiver
from training.calibration.boxes import LEAST_RIGHT, ScoredBoxes, ScoreScale, fit_scale
from training.calibration.fold import folded
from training.calibration.pixels import Pixels, draw_pixels, fit_temperature
from training.calibration.promise import Promise, by_drive, found_objects, promise_of
from training.calibration.recipe import CalibrationRecipe, PromiseRecipe
from training.checkpoint import CheckpointInfo
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.errors import RecipeError
from training.evaluation.bootstrap import average_precisions
from training.evaluation.command import drive_of
from training.evaluation.frame_recorder import keep_records
from training.evaluation.frame_records import FrameRecords
from training.evaluation.models import EvaluatedModel, evaluated_student
from training.evaluation.torch_model import TorchModel
from training.label_sets.label_set import LabelSet
from training.networks.student import Student

NO_FRAMES = "no set of fit has enough labels"
NO_PROOF = "no set of check has enough labels"
WORSE = "worse on the sets of check"
UNWANTED = "the recipe leaves its scores as they are (unscaled)"
AP50_LOSS_MAX = 0.01  # of a class on a set of the check, as a share


@dataclass(frozen=True)
class Fitted:
    """A temperature or a scale, and whether it goes into the file.

    Attributes:
        scale: The scale of the logits; that of a temperature T is 1 / T without a shift.
        refused: Why it is left out; empty if it goes into the file.
        losses: Mean of -ln p on each set of the check, before and after.
    """

    scale: ScoreScale
    refused: str
    losses: Mapping[str, tuple[float, float]]

    @property
    def used(self) -> ScoreScale:
        """The scale that goes into the file."""
        return ScoreScale() if self.refused else self.scale


@dataclass(frozen=True)
class MeasuredSet:
    """A set of frames.

    Attributes:
        name: Its name.
        drives: Drive of each frame.
        pixels: Pixels with their logits before the calibration; None without labelled pixels.
        before, after: Counts of each frame.
    """

    name: str
    drives: tuple[str, ...]
    pixels: Pixels | None
    before: FrameRecords
    after: FrameRecords


@dataclass(frozen=True)
class Calibration:
    """A calibrated student.

    Attributes:
        recipe: Its recipe.
        student: The student, with the temperature in its weights if it holds.
        temperature: The temperature of the class map; None without segmentation.
        scales: The scales of the scores of boxes, by class.
        promises: The thresholds, by class.
        fit, check: The sets of frames.
    """

    recipe: CalibrationRecipe
    student: Student
    temperature: Fitted | None
    scales: dict[str, Fitted]
    promises: dict[str, Promise]
    fit: tuple[MeasuredSet, ...]
    check: tuple[MeasuredSet, ...]

    @property
    def confidence(self) -> dict[str, object]:
        """The section of the contract; empty if nothing holds."""
        found: dict[str, object] = {}
        if self.temperature is not None and not self.temperature.refused:
            found["temperature"] = round(1 / self.temperature.scale.scale, 4)
        if scales := _box_scores(self.scales):
            found["box_scores"] = scales
        thresholds = {name: promise.threshold for name, promise in self.promises.items() if promise.holds}
        if thresholds:
            promised = self.recipe.promise
            found |= {"thresholds": thresholds, "coverage": promised.coverage, "objects": ", ".join(promised.sizes)}
        if found:
            found["fitted_on"] = ", ".join(each.name for each in self.fit)
            found["checked_on"] = ", ".join(each.name for each in self.check)
        return found


def calibrate(recipe: CalibrationRecipe, student: Student, info: CheckpointInfo, keep: Path) -> Calibration:
    """Calibrate a student.

    Args:
        recipe: The recipe.
        student: The student; it is not changed.
        info: Notes of its checkpoint.
        keep: Folder of what it perceived. Frames that it has seen before are not run again.

    Raises:
        CheckpointError: The outputs of the network contain NaN or infinity.
        DataError: Frames are missing or broken.
        RecipeError: A class of the frames maps to nothing in the classes of the student, or `unscaled` names others.
    """
    _check_unscaled(recipe, info.classes)
    model = evaluated_student(student, info)
    sources = {each.name: open_source(each.frames, model.label_set) for each in recipe.sets}
    pixels = {name: _pixels(model, frames, name) for name, frames in sources.items()}
    before = {name: _records(model, frames, keep, name) for name, frames in sources.items()}
    fit, check = [each.name for each in recipe.fit], [each.name for each in recipe.check]
    classes = model.label_set
    temperature = _temperature(pixels, fit, check) if classes.segmentation_classes else None
    scales = {
        name: _scale([ScoredBoxes.of(before[each], label) for each in fit], _boxes_of(before, check, label))
        for label, name in enumerate(_box_names(classes))
    }
    scales = _without(scales, recipe.unscaled, UNWANTED)
    result, after = _applied(student, info, temperature, scales, sources, keep)
    if cost := cost_of(before, after, check):
        scales = _without(scales, scales, cost)
        result, after = _applied(student, info, temperature, scales, sources, keep)
    sets = {
        name: MeasuredSet(name, tuple(map(drive_of, frames.names)), pixels[name], before[name], after[name])
        for name, frames in sources.items()
    }
    fit_sets, check_sets = (tuple(sets[name] for name in names) for names in (fit, check))
    promises = promises_of(_box_names(classes), fit_sets, check_sets, recipe.promise)
    return Calibration(recipe, result, temperature, scales, promises, fit_sets, check_sets)


def _check_unscaled(recipe: CalibrationRecipe, classes: LabelSet) -> None:
    if unknown := [name for name in recipe.unscaled if name not in _box_names(classes)]:
        raise RecipeError(
            f"unscaled: expected classes of boxes of the student ({', '.join(_box_names(classes))}), got "
            f"{', '.join(unknown)}; name those"
        )


def _without(scales: Mapping[str, Fitted], names: Iterable[str], reason: str) -> dict[str, Fitted]:
    """Return the scales, those of some classes left out for a reason. What is left out already keeps its own."""
    left_out = set(names)
    return {
        name: replace(each, refused=each.refused or reason) if name in left_out else each
        for name, each in scales.items()
    }


def _applied(
    student: Student,
    info: CheckpointInfo,
    temperature: Fitted | None,
    scales: Mapping[str, Fitted],
    sources: Mapping[str, FrameFolder],
    keep: Path,
) -> tuple[Student, dict[str, FrameRecords]]:
    """Return the student with what is used of a calibration, and what it perceives then."""
    result = folded(student, 1 / temperature.used.scale if temperature else 1.0)
    calibrated = evaluated_student(result, replace(info, confidence={"box_scores": _box_scores(scales)}))
    return result, {name: _records(calibrated, frames, keep, f"{name}, after") for name, frames in sources.items()}


def cost_of(before: Mapping[str, FrameRecords], after: Mapping[str, FrameRecords], check: Sequence[str]) -> str:
    """Return which class loses AP50 on a set of the check, in words; empty if none does.

    All classes share the rows of the output, so a class whose scores rise can take rows of the others.
    """
    for name in check:
        each = np.ones((1, before[name].frames), np.int64)
        old, new = (average_precisions(records[name], each, 1)[0, 0] for records in (before, after))
        for label, title in enumerate(before[name].box_classes.tolist()):
            if old[label] - new[label] > AP50_LOSS_MAX:
                return (
                    f"AP50 of {title} on {name} would fall from {100 * old[label]:.1f} to {100 * new[label]:.1f} %, "
                    "because a class whose scores rise takes rows of the others"
                )
    return ""


def promises_of(
    names: Sequence[str], fit: Sequence[MeasuredSet], check: Sequence[MeasuredSet], settings: PromiseRecipe
) -> dict[str, Promise]:
    """Return the thresholds of all classes of boxes.

    Args:
        names: Names of the classes by id.
        fit: The sets that thresholds are chosen on.
        check: The sets that they are proved on.
        settings: What is promised.
    """
    found = {}
    for label, name in enumerate(names):
        drives = {
            f"{each.name} {drive}".strip(): objects
            for each in fit
            for drive, objects in by_drive(
                each.after, label, settings.sizes, each.drives, settings.least_objects
            ).items()
        }
        checks = {each.name: found_objects(each.after, label, settings.sizes) for each in check}
        found[name] = promise_of(drives, checks, settings.coverage, settings.tolerance, settings.least_objects)
    return found


def _box_scores(scales: Mapping[str, Fitted]) -> dict[str, dict[str, float]]:
    """Return the scales that are used, as the contract has them."""
    return {
        name: {"scale": round(fitted.scale.scale, 4), "shift": round(fitted.scale.shift, 4)}
        for name, fitted in scales.items()
        if not fitted.refused
    }


def _box_names(classes: LabelSet) -> list[str]:
    return [info.name for info in classes.detection_classes]


def _pixels(model: EvaluatedModel, frames: FrameFolder, name: str) -> Pixels | None:
    if not model.contract.segmentation_classes or not frames.counts.any_pixels:
        return None
    network = cast(TorchModel, cast(Perceiver, model.perceiver).model)
    return draw_pixels(network, frames, f"logits on {name}")


def _records(model: EvaluatedModel, frames: FrameFolder, keep: Path, name: str) -> FrameRecords:
    return keep_records(model.perceiver, model.contract, model.digest, frames, keep, f"boxes on {name}")


def _boxes_of(records: Mapping[str, FrameRecords], names: Sequence[str], label: int) -> dict[str, ScoredBoxes]:
    return {name: ScoredBoxes.of(records[name], label) for name in names}


def _temperature(pixels: Mapping[str, Pixels | None], fit: Sequence[str], check: Sequence[str]) -> Fitted:
    sets, proofs = ({name: each for name in names if (each := pixels[name]) is not None} for names in (fit, check))
    if not sets:
        return Fitted(ScoreScale(), NO_FRAMES, {})
    temperature = fit_temperature(sets)
    losses = {
        name: (each.negative_log_likelihood(1.0), each.negative_log_likelihood(temperature))
        for name, each in proofs.items()
    }
    return _judged(ScoreScale(1 / temperature), losses)


def _scale(fit: Sequence[ScoredBoxes], check: Mapping[str, ScoredBoxes]) -> Fitted:
    sets = [boxes for boxes in fit if boxes.right.any()]
    hits = sum(int(boxes.right.sum()) for boxes in sets)
    misses = sum(int((~boxes.right).sum()) for boxes in sets)
    if min(hits, misses) < LEAST_RIGHT:
        return Fitted(ScoreScale(), NO_FRAMES, {})
    scale = fit_scale(sets)
    losses = {
        name: (boxes.negative_log_likelihood(ScoreScale()), boxes.negative_log_likelihood(scale))
        for name, boxes in check.items()
        if boxes.right.sum() >= LEAST_RIGHT
    }
    return _judged(scale, losses)


def _judged(scale: ScoreScale, losses: dict[str, tuple[float, float]]) -> Fitted:
    """Leave out what is worse on any set of the check, or was not checked."""
    worse = [name for name, (before, after) in losses.items() if after > before]
    refused = NO_PROOF if not losses else f"{WORSE}: {', '.join(worse)}" if worse else ""
    return Fitted(scale, refused, losses)
