"""The recipe of a report: which model, beside which others, on which frames, and what must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.compare.recipe import ScoreRecipe
from training.config.settings import FolderName, PathText, Settings
from training.data.readers.bag import BagSource
from training.errors import RecipeError


def has_labels(score: ScoreRecipe) -> bool:
    """Return whether a set of frames has labels; those of a bag come from teachers."""
    source = score.frames
    return source.labeled or (isinstance(source, BagSource) and source.teachers is not None)


class LimitRecipe(Settings):
    """The least value of a figure of the model."""

    frames: str
    """Name of a set of `frames`."""
    figure: str
    """Name of the figure: `miou`, `ap50`, or one of a class, for example `iou.car`."""
    at_least: Annotated[float, Field(ge=0, le=1)]
    """The least value, a share 0..1."""


class ConditionsRecipe(Settings):
    """Harder conditions to show the model and the baseline in, see `python -m training conditions`."""

    frames: str
    """Name of a set of `frames`."""
    limit: Annotated[int, Field(ge=1)] = 30
    """How many of its frames are changed, from the first on: each is perceived in every condition and severity."""
    only: tuple[str, ...] = ()
    """Names of conditions or of their families; empty = all, those of the renderer only with `rendered`."""
    severities: Annotated[tuple[Annotated[int, Field(ge=1, le=5)], ...], Field(min_length=1)] = (1, 3, 5)
    """Severities, 1 (slight) to 5 (extreme)."""
    rendered: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Frames that are rendered for each setting of light, weather and camera, beside the frames of the set; 0 leaves
    the conditions of the renderer out."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the rendered streets."""


class StabilityRecipe(Settings):
    """Drives on which the model and the others are watched over time, see `python -m training stability`."""

    drives: Annotated[int, Field(ge=1, le=1000)] = 2
    """Number of rendered drives."""
    seed: Annotated[int, Field(ge=0)] = 9000
    """Seed of the first drive; the next has the next."""
    weather: Literal["day", "dusk", "fog", "rain", "low_sun"] = "day"
    """Weather of the drives."""
    seconds: Annotated[float, Field(ge=0.2, le=600)] = 6.0
    """Length of each drive."""
    rate_hz: Annotated[float, Field(ge=0.5, le=60)] = 10.0
    """Frames per second."""
    object_height_px: Annotated[float, Field(ge=6, le=360)] = 24.0
    """Objects count from this height on, of 360 pixels."""


class ReportRecipe(Settings):
    """A report about one model."""

    name: FolderName
    """Name of the report, and of its folder under `folder`."""
    model: PathText
    """The model: an exported file, a checkpoint or kept weights."""
    baseline: PathText | None = None
    """A model to compare with, for example the one before. A verdict of `worse` fails the report."""
    teacher: PathText | None = None
    """A teacher to show beside the model: a checkpoint, kept weights, or a `.yaml` that names teachers."""
    frames: Annotated[tuple[ScoreRecipe, ...], Field(min_length=1)]
    """Sets of frames. The first one is the most important. At least one has labels; on the others, such as a bag
    without `teachers`, the models are compared with one another."""
    limits: tuple[LimitRecipe, ...] = ()
    """What must hold."""
    conditions: ConditionsRecipe | None = None
    """Harder conditions to measure; null = none."""
    stability: StabilityRecipe | None = None
    """Rendered drives on which flicker, lost objects and waits are measured; null = none."""
    memory: bool = True
    """Measure the memory that each model adds to a process, in a process of its own, which takes a few seconds."""
    shown_frames: Annotated[int, Field(ge=0, le=50)] = 4
    """How many of the worst, and how many of the best frames of each set have pictures."""
    never_seen: tuple[str, ...] = ()
    """What the model was not trained or measured on, in sentences for the reader."""
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    """Threads of inference."""
    folder: PathText = Path("out/reports")
    """Folder of reports."""

    @model_validator(mode="after")
    def _check_frames(self) -> ReportRecipe:
        names = [score.name for score in self.frames]
        if len({*names}) < len(names):
            raise RecipeError(f"expected frames with different names, got {names}; rename them")
        named = [("limits", limit.frames) for limit in self.limits]
        named += [("conditions", self.conditions.frames)] if self.conditions else []
        labeled = [score.name for score in self.frames if has_labels(score)]
        if not labeled:
            raise RecipeError(
                f"frames: expected at least one set with labels, those of {', '.join(names)} have none; name teachers "
                "of a bag (teachers: FILE.yaml), or add labelled frames"
            )
        if len(labeled) < len(names) and self.baseline is None and self.teacher is None:
            raise RecipeError(
                "frames: a set without labels only tells how far models agree, and there is one model; name a "
                "baseline or a teacher, or teachers of the bag (teachers: FILE.yaml)"
            )
        unknown = [(key, name) for key, name in named if name not in labeled]
        if unknown:
            raise RecipeError(
                f"{unknown[0][0]}: expected names of frames with labels, {labeled}, got {unknown[0][1]!r}"
            )
        return self

    @property
    def models(self) -> dict[str, Path]:
        """The models by the name of their row, the one that others are compared with first."""
        named = {"baseline": self.baseline, "model": self.model, "teacher": self.teacher}
        return {name: path for name, path in named.items() if path is not None}
