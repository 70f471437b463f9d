"""The distillation section of a recipe: the teachers, the terms with their weights, and stages.

The keys of a term are in the class of the term.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from training.config.settings import Settings
from training.distillation.base import Weight
from training.distillation.table import AnyTerm
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.registry import AnyTeacher
from training.teachers.settings import FusionSettings, TeacherSettings

WHOLE_BATCH = 4096  # images that a teacher looks at together, if no other number is asked for
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class StageRecipe(Settings):
    """Changes from an epoch on. Keys that are left out keep their value."""

    from_epoch: Annotated[int, Field(ge=1)]
    """First epoch of the stage; the first epoch of a run is 0."""
    hard_weight: Share | None = None
    """Share of the loss of the labels."""
    temperature_factor: Annotated[float, Field(ge=0.05, le=20.0)] | None = None
    """Multiplies the temperature of every term that has one. The temperatures of two terms mean different things, so
    there is no single temperature for all."""
    weights: tuple[Weight, ...] = ()
    """Weights of all terms, in their order."""


class DistillationRecipe(Settings):
    """One or several teachers, and what the student learns from them. Terms that compare the student with itself need
    no teacher.

    loss = hard_weight * (loss of the labels) + (1 - hard_weight) * sum of (weight * term).
    """

    teacher: str = ""
    """Checkpoint of `python -m training train`; its averaged weights teach. Short for `teachers` with this checkpoint
    alone, of which every pixel teaches (`pixel_confidence_min` 0)."""
    teachers: tuple[AnyTeacher, ...] = ()
    """The teachers, where there are several, or one of another kind."""
    fusion: FusionSettings = FusionSettings()
    """How boxes of several views and teachers become one."""
    terms: tuple[AnyTerm, ...]
    """What is compared."""
    hard_weight: Share = 0.5
    """Share of the loss of the labels; 1 ignores the teacher."""
    stages: tuple[StageRecipe, ...] = ()
    """Changes by epoch, in rising order; empty keeps everything constant."""
    look: Literal["view", "frame"] = "view"
    """`view`: the teachers look at each augmented view of a frame in the step that trains on it. `frame`: they look
    once at every whole frame before the run begins, and what they say is kept in `cache` and goes through the same
    augmentation as the frame. It costs nothing in a step, and teaches classes of pixels and boxes, but no features."""
    cache: str = ""
    """Folder that keeps what the teachers say; empty keeps nothing. Where they look at views, it needs
    `data.views_per_frame`, since endless views never come again."""

    @property
    def all_teachers(self) -> tuple[TeacherSettings, ...]:
        """The settings of all teachers."""
        if self.teachers or not self.teacher:
            return self.teachers
        return (
            CheckpointTeacher(
                kind="checkpoint", path=Path(self.teacher), pixel_confidence_min=0.0, images_at_once=4096
            ),
        )

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The paths of the teachers that are checkpoints."""
        return tuple(one.name for one in self.all_teachers if isinstance(one, CheckpointTeacher))

    def problems(self, epochs: int) -> list[str]:
        """Return sentences about keys that do not fit each other, or a run of `epochs` epochs; empty if all fit."""
        found = []
        if not self.teacher.strip() and not self.teachers and self._needs_teachers:
            found.append(
                "distillation.teacher must name a checkpoint, or distillation.teachers teachers; both are empty"
            )
        if self.teacher and self.teachers:
            found.append("distillation has teacher and teachers; move the checkpoint into the list")
        if not self.terms:
            found.append("distillation.terms needs at least one term")
        if not self.all_teachers and self.hard_weight == 0:
            found.append(
                "distillation.hard_weight is 0 and there is no teacher, which leaves nothing that says what is right; "
                "set it above 0, or name a teacher"
            )
        if self.look == "frame":
            found += self._problems_of_frames()
        starts = [stage.from_epoch for stage in self.stages]
        if starts != sorted(set(starts)):
            found.append(f"distillation.stages must have rising from_epoch, got {starts}")
        for number, stage in enumerate(self.stages):
            if stage.from_epoch >= epochs:
                found.append(
                    f"distillation.stages.{number}.from_epoch must be below epochs, {epochs}, or the stage never "
                    f"begins, got {stage.from_epoch}; the first epoch is 0"
                )
            if stage.weights and len(stage.weights) != len(self.terms):
                found.append(
                    f"distillation.stages.{number}.weights must name {len(self.terms)} weights, one for each term, "
                    f"got {len(stage.weights)}"
                )
        return found

    @property
    def _needs_teachers(self) -> bool:
        return any(term.teacher_part != "nothing" for term in self.terms) or not self.terms

    def _problems_of_frames(self) -> list[str]:
        found = []
        if not self.all_teachers:
            found.append(
                "distillation.look is frame, which needs teachers, there are none; name one, or set look to view"
            )
        if not self.cache:
            found.append(
                "distillation.look is frame, which needs distillation.cache, the folder of what the teachers say"
            )
        for number, term in enumerate(self.terms):
            if term.teacher_part == "outputs":
                found.append(
                    f"distillation.look is frame, which keeps classes of pixels and boxes, distillation.terms.{number} "
                    f"{term.kind} compares features or detection branches of views; leave the term out, or set look to "
                    "view"
                )
        return found


@dataclass(frozen=True)
class Balance:
    """The weights of one epoch: share of the labels' loss, weight of each term, factor of every temperature."""

    hard_weight: float
    weights: tuple[float, ...]
    temperature_factor: float


def balance_at(recipe: DistillationRecipe, epoch: int) -> Balance:
    """Return the balance of an epoch, with all stages up to it applied in turn."""
    hard_weight, factor = recipe.hard_weight, 1.0
    weights = tuple(term.weight for term in recipe.terms)
    for stage in recipe.stages:
        if stage.from_epoch <= epoch:
            hard_weight = hard_weight if stage.hard_weight is None else stage.hard_weight
            factor = factor if stage.temperature_factor is None else stage.temperature_factor
            weights = stage.weights or weights
    return Balance(hard_weight, weights, factor)
