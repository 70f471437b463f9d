"""The recipe of a calibration: which weights, fitted on which frames, and proved on which others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.compare.recipe import ScoreRecipe
from training.config.settings import FolderName, PathText, Settings
from training.errors import RecipeError

ClassName = Annotated[str, Field(min_length=1)]
Size = Literal["small", "medium", "large"]


class PromiseRecipe(Settings):
    """Thresholds that find a share of the true objects of each class."""

    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the true objects of a class that its threshold finds, with an IoU of at least 0.5, in every drive of
    `fit`."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """By how much less each set of `check` may have; a class with less has no threshold in the file."""
    sizes: Annotated[tuple[Size, ...], Field(min_length=1)] = ("small", "medium", "large")
    """Sizes of the objects that are promised, by COCO's names: medium from 32x32 px on, large from 96x96 px on, in the
    pixels of the frame."""
    least_objects: Annotated[int, Field(ge=10, le=100_000)] = 20
    """Drives with fewer true objects of a class are taken together as one drive; a set of `check` with fewer says
    nothing of the class."""


class CalibrationRecipe(Settings):
    """A calibration of the scores of one student."""

    name: FolderName
    """Name of the calibration, and of its folder under `folder`."""
    model: PathText
    """The student: a checkpoint, kept weights, or an exported fp32 file."""
    fit: Annotated[tuple[ScoreRecipe, ...], Field(min_length=1)]
    """Sets of frames that the temperature, scales and thresholds are fitted on; the student was not trained on them."""
    check: Annotated[tuple[ScoreRecipe, ...], Field(min_length=1)]
    """Sets of other frames. What does not hold on them does not go into the file."""
    unscaled: tuple[ClassName, ...] = ()
    """Classes whose scores stay as they are, though a scale would hold. All classes share one score threshold, and a
    scale that lifts the scores of one class lets more of its wrong boxes through."""
    promise: PromiseRecipe = PromiseRecipe()
    """The thresholds of each class, and what they promise."""
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    """Threads of inference."""
    folder: PathText = Path("out/calibration")
    """Folder of calibrations: the weights, the figures and the plots."""

    @model_validator(mode="after")
    def _check_sets(self) -> CalibrationRecipe:
        sets = (*self.fit, *self.check)
        names = [each.name for each in sets]
        if len({*names}) < len(names):
            raise RecipeError(f"fit and check: expected sets with different names, got {names}; rename them")
        without = [each.name for each in sets if not each.frames.labeled]
        if without:
            raise RecipeError(f"fit and check must be frames with labels, {', '.join(without)} has none; name others")
        return self

    @property
    def sets(self) -> tuple[ScoreRecipe, ...]:
        """All sets of frames, those of `fit` first."""
        return (*self.fit, *self.check)
