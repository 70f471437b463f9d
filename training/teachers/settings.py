"""What all teachers have in common in a recipe: classes and tasks, views, thresholds. Reading this does not load torch.

A kind of teacher is its file in this folder and a line in `training.teachers.registry`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from training.config.licence import Licence
from training.config.settings import Settings
from training.errors import RecipeError
from training.label_sets.label_set import NameTable

if TYPE_CHECKING:
    from training.teachers.seen import Teacher

Share = Annotated[float, Field(ge=0, le=1)]
Task = Literal["segmentation", "detection"]
TASKS: tuple[Task, ...] = ("segmentation", "detection")


def _names(value: Any) -> Any:
    return () if value == "all" else tuple(value) if isinstance(value, list) else value


ClassNames = Annotated[
    tuple[str, ...], BeforeValidator(_names, json_schema_input_type=Literal["all"] | tuple[str, ...])
]


class ViewSettings(Settings):
    """How a teacher looks at an image. What it says in several views is merged."""

    whole: bool = True
    """Look at the whole image."""
    rows: Annotated[int, Field(ge=1, le=16)] = 1
    """Look at this many rows of tiles, too. Tiles show small objects larger to a network whose input size is fixed."""
    columns: Annotated[int, Field(ge=1, le=16)] = 1
    """Tiles in a row; a single row with a single column means no tiles."""
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    """Share of a tile's side that it has in common with the next tile."""
    mirrored: bool = False
    """Look at the mirror image of every view, too."""
    scales: Annotated[tuple[Annotated[float, Field(ge=0.1, le=8)], ...], Field(min_length=1, max_length=8)] = (1.0,)
    """Look at every view in these sizes, as factors of its own size. They have no effect on a network whose input has a
    fixed size."""
    megapixels: Annotated[tuple[Annotated[float, Field(ge=0.01, le=16)], ...], Field(max_length=8)] = ()
    """Look at every view in these sizes instead, in millions of pixels with its aspect ratio kept. So small and large
    frames are seen at the same size, and a look at either takes the same time. `scales` must be absent then."""

    @model_validator(mode="after")
    def _check(self) -> ViewSettings:
        if not self.whole and self.rows * self.columns == 1:
            raise RecipeError("views show nothing; set whole to true, or name rows and columns of tiles")
        if self.megapixels and self.scales != (1.0,):
            raise RecipeError("views have sizes twice; name scales or megapixels, not both")
        return self

    @property
    def own_size_only(self) -> bool:
        """Whether every view is seen in its own size."""
        return self.scales == (1.0,) and not self.megapixels

    def scales_of(self, height: int, width: int) -> tuple[float, ...]:
        """Return the factors of a view's size, in the order in which it is looked at.

        Args:
            height: Height of the view in pixels.
            width: Width of the view in pixels.
        """
        if self.megapixels:
            return tuple(math.sqrt(size * 1e6 / (height * width)) for size in self.megapixels)
        return tuple(sorted(self.scales, key=lambda scale: scale != 1.0))


class FusionSettings(Settings):
    """How boxes of several views, and of several teachers, become one box for each object."""

    boxes: Literal["nms", "weighted"] = "nms"
    """`nms` keeps the box with the highest score; `weighted` takes the mean of overlapping boxes, weighted by their
    scores (weighted boxes fusion; Solovyev et al., 2021)."""
    iou: Share = 0.5
    """Boxes of one class that overlap by more than this IoU are of one object."""


class JoinRule(Settings):
    """Two boxes that together are an object of another class, such as a person on a bicycle."""

    upper: Annotated[tuple[str, ...], Field(min_length=1)]
    """The teacher's classes of the upper box: `person`."""
    lower: Annotated[tuple[str, ...], Field(min_length=1)]
    """The teacher's classes of the lower box, which covers the lower half of the upper box and not its head: `bicycle`,
    `motorcycle`."""
    becomes: Annotated[str, Field(min_length=1)]
    """The student's class of the pair."""
    box: Literal["union", "upper"] = "union"
    """The box of the pair: around both, as KITTI and CamVid label riders, or the upper one alone, as Cityscapes does.
    With `upper`, the lower box stays an object of its own."""
    covered_min: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of the upper box's lower half that the lower box covers at least."""
    lower_sure: Annotated[float, Field(gt=0, le=1)] = 0.3
    """From this score of the lower box on, the pair is surely of the new class. With a lower score, the upper box
    shares its score between its own class and the new one."""
    lower_unsure: Share = 0.05
    """A lower box with a lower score than this is not there."""

    @model_validator(mode="after")
    def _check(self) -> JoinRule:
        both = sorted({*self.upper} & {*self.lower})
        if both:
            raise RecipeError(f"upper and lower must name different classes, both have {', '.join(both)}")
        if self.lower_unsure > self.lower_sure:
            raise RecipeError(f"lower_unsure {self.lower_unsure} is above lower_sure {self.lower_sure}; swap them")
        return self


class TeacherSettings(Settings):
    """What a recipe says about a teacher; each kind derives its own and adds its keys."""

    kind: str
    """What the teacher is."""
    classes: ClassNames = ()
    """Names of the student's classes that it teaches; `all`, or an empty list, for all that its own classes map to."""
    tasks: tuple[Task, ...] = ()
    """What it teaches; an empty list for all that it can."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Weight beside other teachers of the same class."""
    views: ViewSettings = ViewSettings()
    """How it looks at an image."""
    map: NameTable = NameTable()
    """Which of the student's classes each of its classes becomes, before the tables of its label set."""
    joined: tuple[JoinRule, ...] = ()
    """Pairs of boxes that are one object of another class, such as a person on a bicycle."""
    box_sure: Share = 0.5
    """A box with at least this score is an object."""
    box_sure_by_class: dict[str, Share] = Field(default_factory=dict)
    """`box_sure` of some of the student's classes, by name: networks are surer of one class than of another."""
    box_unsure: Share = 0.2
    """A box with at least this score, and less than `box_sure`, is neither an object nor background. Boxes with lower
    scores are background."""
    pixel_confidence_min: Share = 0.5
    """A pixel whose most probable class has a lower probability teaches nothing."""
    licence: Licence | None = None
    """Under which terms its weights may teach. Null takes what a checkpoint notes of what it learnt from; of other
    networks nothing is known then."""
    images_at_once: Annotated[int, Field(ge=1, le=4096)] = 8
    """Images that it looks at together; fewer need less memory."""

    @model_validator(mode="after")
    def _check_thresholds(self) -> TeacherSettings:
        if self.box_unsure > self.box_sure:
            raise RecipeError(f"box_unsure {self.box_unsure} is above box_sure {self.box_sure}; swap them")
        low = sorted(name for name, sure in self.box_sure_by_class.items() if sure < self.box_unsure)
        if low:
            raise RecipeError(f"box_sure_by_class of {', '.join(low)} is below box_unsure {self.box_unsure}; raise it")
        return self

    @abstractmethod
    def open(self) -> Teacher:
        """Load the network. torch is imported here, not with the settings.

        Raises:
            CheckpointError, ModelFileError, RecipeError: The network cannot be used as a teacher.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """Path or name of the network, for errors and reports."""
