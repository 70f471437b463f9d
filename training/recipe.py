"""A recipe: everything that a training run does, checked before anything slow starts.

`Recipe` puts the sections together and checks what must fit between them. Sections are in `training.config`, readers of
frames with their settings in `training.data.readers`, terms of distillation in `training.distillation`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, model_validator

from training.config.licence import Licence
from training.config.loading import load_settings, parse_settings
from training.config.network_input import check_input_size
from training.config.sections import (
    AugmentationRecipe,
    BackboneRecipe,
    LossRecipe,
    OptimizerRecipe,
    QuantizationAwareRecipe,
)
from training.config.settings import FolderName, PathText, Settings
from training.config.yaml_text import read_yaml
from training.data.readers.registry import BY_KIND, AnySource
from training.data.readers.source import LabeledSource, Source
from training.distillation.settings import DistillationRecipe
from training.errors import RecipeError
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import DEFAULT_LABEL_SET, load_label_set

STRIDE_PX = 32  # the coarsest stride of the network
MEAN_IOU, MEAN_AP50, AP50_ENDING = "miou", "ap50", "_ap50"
FIGURE_OF_TASK = {"segmentation": MEAN_IOU, "detection": MEAN_AP50}  # figures that every label set has


def task_of_figure(figure: str) -> str:
    """Return the task whose validation frames give a figure of `validation.best_by`."""
    return "segmentation" if figure == MEAN_IOU else "detection"


def _text_or_list(value: Any) -> str:
    return "list" if isinstance(value, tuple) else "text"


TextOrTexts = Annotated[
    Annotated[str, Tag("text")] | Annotated[tuple[str, ...], Tag("list")], Discriminator(_text_or_list)
]


class DataRecipe(Settings):
    """Training frames: where they come from, how many make an epoch, and the size of the crops."""

    train: tuple[AnySource, ...]
    """Sources of training frames."""
    samples_per_epoch: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Samples in an epoch; 0 = as many as there are frames."""
    crop_height: Annotated[int, Field(ge=32, le=8192)] = 320
    """Height of a crop in pixels, a multiple of 32."""
    crop_width: Annotated[int, Field(ge=32, le=8192)] = 448
    """Width of a crop in pixels, a multiple of 32."""
    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """Processes that prepare samples; 0 prepares them in the process of the training."""
    views_per_frame: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Each frame is shown in this many augmented views, which come again in turn; 0 = a new view every time."""

    @model_validator(mode="after")
    def _check(self) -> DataRecipe:
        if self.crop_height % STRIDE_PX or self.crop_width % STRIDE_PX:
            raise RecipeError(
                f"data.crop_height and data.crop_width must be multiples of {STRIDE_PX}, the coarsest stride of the "
                f"network, got {self.crop_height} x {self.crop_width}"
            )
        if sum(source.share for source in self.train) <= 0:
            raise RecipeError("data.train needs at least one source with a share above 0")
        return self


class ValidationRecipe(Settings):
    """Frames that are scored during training, with the moving average of the weights."""

    segmentation: AnySource | None = None
    """Source for the mean IoU; null = none."""
    detection: AnySource | None = None
    """Source for the average precision at IoU 0.5; null = none."""
    every_epochs: Annotated[int, Field(ge=1)] = 5
    """Score after every n-th epoch, and always after the last."""
    input_height: Annotated[int, Field(ge=32, le=8192)] = 384
    """Height of the network's input in pixels, a multiple of 32. An export has it too, unless it asks for another."""
    input_width: Annotated[int, Field(ge=32, le=8192)] = 640
    """Width of the network's input in pixels, a multiple of 32."""
    required: bool = True
    """True refuses to train if a folder is missing; false prints a line and leaves the folder out."""
    best_by: Annotated[str, Field(pattern=r"^(miou|ap50|.+_ap50)$")] = MEAN_IOU
    """Figure that chooses the best checkpoint: `miou`, `ap50` (mean over the classes of boxes), or the average
    precision of one class, for example `car_ap50`. If its folder is missing and not required, the other task's mean
    does."""

    @model_validator(mode="after")
    def _check_input_size(self) -> ValidationRecipe:
        check_input_size(self.input_height, self.input_width, "validation.input_height and input_width")
        return self

    @model_validator(mode="after")
    def _check_sources(self) -> ValidationRecipe:
        sources = {"segmentation": self.segmentation, "detection": self.detection}
        for task, source in sources.items():
            if source is not None and not source.labeled:
                raise RecipeError(
                    f"validation.{task} must be frames with labels to score against, got kind {source.kind}; name a "
                    "labelled folder, or leave it out"
                )
        wanted = task_of_figure(self.best_by)
        if any(sources.values()) and sources[wanted] is None:
            other = next(figure for task, figure in FIGURE_OF_TASK.items() if task != wanted)
            raise RecipeError(
                f"validation.best_by is {self.best_by}, which comes from validation.{wanted}, and there is none; set "
                f"validation.best_by to {other}, or add validation.{wanted}"
            )
        return self


class Recipe(Settings):
    """A training run."""

    name: FolderName
    """Name of the run, and of its folder under `output`."""
    data: DataRecipe
    """Training frames."""
    label_set: Annotated[str, Field(min_length=1)] = DEFAULT_LABEL_SET
    """Classes of the network: the name of a set in training/label_sets/, or the path of a YAML file."""
    size: Literal["n", "s", "m", "l"] = "s"
    """Size of backbone, neck and heads; with `backbone`, of neck and heads only."""
    backbone: BackboneRecipe | None = None
    """A backbone of the transformers library; null = our own."""
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    """Length of the run."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 12
    """Samples in a batch on each device."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """Precision of the arithmetic, as Lightning names it. `16-mixed` is for GPUs only."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Start of all random numbers. Those of a sample follow from the seed, the epoch and its place in the epoch."""
    initial_weights: TextOrTexts = ""
    """Checkpoint whose averaged weights the run starts from; those of a smaller size are grown. A list of checkpoints
    that came from one start gives the mean of their weights (a model soup). Empty = random weights."""
    licences: tuple[Licence, ...] = ()
    """Licences of what else the weights learnt from, such as pretrained weights of others. Those of frames and teachers
    stand there."""
    trained_part: Literal["all", "detection"] = "all"
    """`detection` trains only the one-to-one detection branch. The rest, with its running statistics, stays as it is in
    `initial_weights`."""
    output: PathText = Path("out/training")
    """Folder of runs."""
    augmentation: AugmentationRecipe = AugmentationRecipe()
    """Random changes of the frames."""
    validation: ValidationRecipe = ValidationRecipe()
    """Frames that are scored during training."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    """Optimiser and learning rate."""
    loss: LossRecipe = LossRecipe()
    """Weights in the loss of the labels."""
    distillation: DistillationRecipe | None = None
    """The teacher and what is learnt from it; null = the run learns from labels only."""
    quantization_aware: QuantizationAwareRecipe | None = None
    """Round weights and activations like an 8-bit file; null = train the plain network. Needs `initial_weights`."""

    @model_validator(mode="after")
    def _check_start(self) -> Recipe:
        if len(set(self.starts)) < len(self.starts) or "" in self.starts:
            raise RecipeError(f"initial_weights must be different checkpoints, got {list(self.starts)}")
        if self.trained_part != "all" and not self.starts:
            raise RecipeError(f"trained_part {self.trained_part} needs initial_weights: the rest would stay random")
        for key in ("frozen", "frozen_statistics"):
            if getattr(self.backbone, key, False) and not (getattr(self.backbone, "pretrained", "") or self.starts):
                raise RecipeError(f"backbone.{key} needs backbone.pretrained or initial_weights: it would stay random")
        if self.quantization_aware is not None and not self.starts:
            raise RecipeError(
                "quantization_aware needs initial_weights: ranges come from a trained network; name its checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _check_distillation(self) -> Recipe:
        if self.distillation is None:
            return self
        problems = self.distillation.problems(self.epochs)
        of_views = self.distillation.look == "view"
        if of_views and self.distillation.cache and not self.data.views_per_frame:
            problems.append(
                "distillation.cache needs data.views_per_frame above 0: without it, no view is shown twice; set it, or "
                "set distillation.look to frame"
            )
        if problems:
            raise RecipeError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _check_taught_frames(self) -> Recipe:
        silent = [f"data.train.{n}.taught" for n, source in enumerate(self.data.train) if not source.taught]
        if silent and (self.distillation is None or self.distillation.look != "frame"):
            raise RecipeError(f"{silent[0]} is false, which needs distillation.look: frame; set both or neither")
        if self.has_teachers and not any(s.taught and s.share > 0 for s in self.data.train):
            raise RecipeError("expected a source in data.train that the teachers may teach, all have taught: false")
        return self

    @model_validator(mode="after")
    def _check_something_to_learn(self) -> Recipe:
        if self.has_teachers:
            return self
        drawn_from = [source for source in self.data.train if source.share > 0]
        if not any(source.labeled for source in drawn_from):
            kinds = ", ".join(sorted({source.kind for source in drawn_from}))
            raise RecipeError(
                f"data.train has only frames without labels (kind {kinds}), from which nothing can be learnt without a "
                "teacher; add a labelled source or a distillation section"
            )
        loss = self.loss
        if not loss.detection and (self.trained_part == "detection" or not loss.segmentation):
            raise RecipeError(
                f"loss.segmentation {loss.segmentation} and loss.detection {loss.detection} leave nothing to "
                f"learn where trained_part is {self.trained_part}; set one above 0"
            )
        return self

    def student_classes(self) -> LabelSet:
        """Return the classes of the network.

        Raises:
            RecipeError: There is no such label set, or its ids do not count from 0.
        """
        label_set = load_label_set(self.label_set)
        label_set.check_student()
        return label_set

    def check_classes(self) -> None:
        """Check what names classes, or is counted by them, against the label sets.

        Raises:
            RecipeError: A class is unknown, or a class of a source maps to nothing.
        """
        student = self.student_classes()
        self._check_tasks(student)
        for where, source in self.sources():
            if isinstance(source, LabeledSource) and source.labels:
                source.mapping_to(student, where)
        weights, classes = self.loss.class_weights, len(student.segmentation)
        if len(weights) not in (0, classes):
            raise RecipeError(
                f"loss.class_weights must be empty or name {classes} weights, one for each class, got {len(weights)}"
            )
        figure, names = self.validation.best_by, [info.name for info in student.detection]
        if figure not in FIGURE_OF_TASK.values() and figure.removesuffix(AP50_ENDING) not in names:
            raise RecipeError(
                f"validation.best_by is {figure}, and the label set {student.name} has no such class of boxes; name "
                f"{', '.join([*FIGURE_OF_TASK.values(), *(name + AP50_ENDING for name in names)])}"
            )

    def _check_tasks(self, student: LabelSet) -> None:
        """Refuse what belongs to a task for which the label set has no classes."""
        tasks = [task for task in FIGURE_OF_TASK if getattr(student, task)]
        for task in FIGURE_OF_TASK.keys() - tasks:
            kept = f"the label set {student.name} has no classes of {task}"
            if getattr(self.validation, task) is not None:
                raise RecipeError(f"validation.{task} cannot be scored: {kept}; leave it out, or choose another set")
            if self.trained_part == task:
                raise RecipeError(f"trained_part {task} cannot be trained: {kept}; train all, or choose another set")
        if not self.has_teachers and not any(getattr(self.loss, task) for task in tasks):
            raise RecipeError(
                f"loss.{tasks[0]} is 0, and the label set {student.name} has classes of no other task; set it above 0"
            )

    def sources(self) -> list[tuple[str, Source]]:
        """Return every source of frames with its key."""
        scored = {"segmentation": self.validation.segmentation, "detection": self.validation.detection}
        return [
            *((f"data.train.{number}", source) for number, source in enumerate(self.data.train)),
            *((f"validation.{task}", source) for task, source in scored.items() if source is not None),
        ]

    @property
    def starts(self) -> tuple[str, ...]:
        """The checkpoints that the run starts from."""
        if isinstance(self.initial_weights, tuple):
            return self.initial_weights
        return (self.initial_weights,) if self.initial_weights else ()

    @property
    def has_teachers(self) -> bool:
        """Whether anything but labels says what is right."""
        return self.distillation is not None and bool(self.distillation.all_teachers)

    def to_yaml(self) -> str:
        """Return the recipe as YAML with every default written out; it reads back to an equal recipe."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text

    @property
    def sha256(self) -> str:
        """SHA-256 of everything that the recipe says, independent of the layout of its file."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a YAML file.

    Args:
        path: A file like those in training/recipes/.
        overrides: Changes as `key=value`, for example `epochs=3` or `data.train.0.folder=frames`.

    Raises:
        RecipeError: The file cannot be read, or a key or value is not valid.
    """
    recipe = load_settings(Path(path), Recipe, overrides)
    return _with_known_classes(recipe, str(path))


def parse_recipe(text: str, overrides: Sequence[str] = (), where: str = "recipe") -> Recipe:
    """Read a recipe from YAML text; see `load_recipe`. Errors begin with `where`."""
    return _with_known_classes(parse_settings(text, Recipe, overrides, where), where)


def _with_known_classes(recipe: Recipe, where: str) -> Recipe:
    try:
        recipe.check_classes()
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    return recipe


def parse_noted_recipe(text: str) -> Recipe:
    """Read the recipe that a checkpoint notes. Its label sets need not be on this machine.

    Version 0.1.0 wrote the keys of all readers into every source; those that the reader of a source does not have never
    had an effect and are left out.

    Raises:
        RecipeError: The text is not a recipe of this version.
    """
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise RecipeError(f"recipe: not valid YAML ({error})") from error
    for source in _sources_in(content):
        reader = BY_KIND.get(str(source.get("kind")))
        for key in source.keys() - reader.model_fields if reader else ():
            del source[key]
    return Recipe.checked(content)


def is_noted_recipe(recipe: Recipe, noted_sha256: str, noted_text: str) -> bool:
    """Return whether a run noted this recipe.

    A version with a new setting writes one more line for the same recipe, so its text and SHA-256 are others. Read
    again, the noted text has the default of that setting, as the run had.

    Args:
        recipe: The recipe as it is read now.
        noted_sha256: SHA-256 of the recipe in the notes of the run's checkpoint.
        noted_text: Text of the recipe there.
    """
    if noted_sha256 == recipe.sha256:
        return True
    try:
        return parse_noted_recipe(noted_text).sha256 == recipe.sha256
    except RecipeError:  # of a version that this one does not read
        return False


def _sources_in(content: Any) -> list[dict[str, Any]]:
    """Return the sections of a recipe's plain values that name sources."""
    sections = content if isinstance(content, dict) else {}
    data, validation = (sections.get(name) for name in ("data", "validation"))
    train = data.get("train") if isinstance(data, dict) else None
    scored = [validation.get(task) for task in FIGURE_OF_TASK] if isinstance(validation, dict) else []
    return [source for source in (*(train if isinstance(train, list) else ()), *scored) if isinstance(source, dict)]
