"""Recipes: what a training run is, and what makes sense together; `training.config.reader` reads them from YAML."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ros_kd_perception.model.classes import SEGMENTATION_CLASSES
from ros_kd_perception.model.contract import MAX_SIDE_PX
from training.config.distillation import DistillationRecipe
from training.config.names import FOLDER_NAME_RULE, is_folder_name
from training.errors import RecipeError

MAX_DETECTIONS = 100  # of an export
UNLABELED_KINDS = ("unlabeled", "bag")  # of sources
TASK_OF_FIGURE = {"miou": "segmentation", "car_ap50": "detection"}  # what validation.best_by comes from


def _ranged(default: Any, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field whose number must lie in low..high, both included."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class SourceRecipe:
    """One folder of frames, or one bag.

    Attributes:
        kind: `rendered` (images/*.jpg, masks/*.png, boxes.json), `camvid` (images/, masks/; boxes from regions),
            `unlabeled` (images/) or `bag` (a ROS 2 bag): frames that only a teacher can say anything about.
        folder: relative to the working directory; of kind `bag` the bag, a file or a folder.
        share: part of an epoch's samples drawn from here; the shares of all sources are scaled to sum to 1.
        include_drives: only frames whose name starts with one of these; empty = all.
        exclude_drives: frames whose name starts with one of these are left out.
        box_weight: how much this source's boxes count in the loss, 0 = not at all.
        limit: use the first so many frames only, 0 = all.
        topics: of a bag, the image topics to take; empty = those of all its cameras.
        stride: of a bag, look at every so-many-th frame of a camera.
        change_min: of a bag, a frame is left out where a tiny grey picture of it differs from that of the last frame
            kept by less than this, mean over pixels, full scale = 1.
    """

    kind: Literal["rendered", "camvid", "unlabeled", "bag"]
    folder: Path
    share: float = _ranged(1.0, 0.0, 1e6)
    include_drives: tuple[str, ...] = ()
    exclude_drives: tuple[str, ...] = ()
    box_weight: float = _ranged(1.0, 0.0, 1.0)
    limit: int = _ranged(0, 0)
    topics: tuple[str, ...] = ()
    stride: int = _ranged(1, 1)
    change_min: float = _ranged(0.01, 0, 1)


@dataclass(frozen=True)
class AugmentationRecipe:
    """What is varied between two sights of the same frame; chances are 0..1, amounts as named.

    Attributes:
        scale_min, scale_max: zoom, drawn log-uniformly.
        aspect: width over height is drawn from 1 / (1 + aspect) .. 1 + aspect, log-uniformly.
        flip: chance of a mirror image.
        brightness: the image is shifted by up to so much of full scale.
        contrast, saturation, gain: factors from 1 / (1 + x) .. 1 + x; gain per channel (white balance).
        gamma: exponent from 1 / (1 + x) .. 1 + x.
        hue_degrees: turn of the colour circle by up to so much.
        grey, blur, noise, jpeg, shade, erase: chances of each.
        rare_paste: chance that objects of the rare classes are copied in from another frame of the same source.
        visible_share_min: a box that the crop leaves less of than this is dropped.
    """

    scale_min: float = _ranged(0.5, 0.1, 10)
    scale_max: float = _ranged(2.0, 0.1, 10)
    aspect: float = _ranged(0.1, 0, 1)
    flip: float = _ranged(0.5, 0, 1)
    brightness: float = _ranged(0.12, 0, 1)
    contrast: float = _ranged(0.4, 0, 4)
    gamma: float = _ranged(0.3, 0, 4)
    saturation: float = _ranged(0.5, 0, 4)
    gain: float = _ranged(0.12, 0, 4)
    hue_degrees: float = _ranged(10.0, 0, 180)
    grey: float = _ranged(0.03, 0, 1)
    blur: float = _ranged(0.15, 0, 1)
    noise: float = _ranged(0.25, 0, 1)
    jpeg: float = _ranged(0.2, 0, 1)
    shade: float = _ranged(0.3, 0, 1)
    erase: float = _ranged(0.0, 0, 1)
    rare_paste: float = _ranged(0.0, 0, 1)
    visible_share_min: float = _ranged(0.3, 0, 1)


@dataclass(frozen=True)
class DataRecipe:
    """Training frames: where from, how many an epoch, cut to which size (multiples of 32).

    `views_per_frame`: each frame is only ever seen in so many augmented views, which come again in turn; 0 = a new view
    every time.
    """

    train: tuple[SourceRecipe, ...]
    samples_per_epoch: int = _ranged(0, 0, 10_000_000)
    crop_height: int = _ranged(320, 32, 8192)
    crop_width: int = _ranged(448, 32, 8192)
    workers: int = _ranged(2, 0, 256)
    views_per_frame: int = _ranged(0, 0, 1_000_000)


def check_input_size(height: int, width: int, where: str) -> None:
    """Refuse a network input that no exported student could have.

    Raises:
        RecipeError: not of multiples of 32, too large, or with fewer cells than an export has detections.
    """
    cells = sum(height // stride * (width // stride) for stride in (8, 16, 32))
    too_large = max(height, width) > MAX_SIDE_PX
    if height % 32 or width % 32 or min(height, width) <= 0 or cells < MAX_DETECTIONS or too_large:
        raise RecipeError(
            f"{where}: expected a network input of multiples of 32 up to {MAX_SIDE_PX} that has room for "
            f"{MAX_DETECTIONS} detections, got a height of {height} and a width of {width}; 384 and 640 are usual"
        )


@dataclass(frozen=True)
class ValidationRecipe:
    """Frames to score while training, with the averaged weights.

    Attributes:
        segmentation: source for the mean IoU; its folder may be absent where `required` is false.
        detection: source for the car AP50.
        every_epochs: also always after the last epoch.
        input_height, input_width: the letterbox; an export takes it, too, unless another is asked for.
        required: whether a missing validation folder is an error (else it is said and skipped).
        best_by: which figure the best checkpoint is chosen by; where its folder is absent and need not be there, the
            other one.
    """

    segmentation: SourceRecipe | None = None
    detection: SourceRecipe | None = None
    every_epochs: int = _ranged(5, 1)
    input_height: int = _ranged(384, 32, 8192)
    input_width: int = _ranged(640, 32, 8192)
    required: bool = True
    best_by: Literal["miou", "car_ap50"] = "miou"

    def __post_init__(self) -> None:
        check_input_size(self.input_height, self.input_width, "validation.input_height and input_width")
        sources = {"segmentation": self.segmentation, "detection": self.detection}
        for task, source in sources.items():
            if source is not None and source.kind in UNLABELED_KINDS:
                raise RecipeError(
                    f"validation.{task} must be frames with labels to score against, got kind {source.kind}; name a "
                    "labelled folder, or leave it out"
                )
        wanted = TASK_OF_FIGURE[self.best_by]
        if any(sources.values()) and sources[wanted] is None:
            other = next(figure for figure, task in TASK_OF_FIGURE.items() if task != wanted)
            raise RecipeError(
                f"validation.best_by is {self.best_by}, which comes from validation.{wanted}, and there is none; set "
                f"validation.best_by to {other}, or add validation.{wanted}"
            )


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW with a warm-up by steps and a decay to `final_share` of the rate at the end of the run."""

    learning_rate: float = _ranged(2e-3, 0, 1e3)
    weight_decay: float = _ranged(0.02, 0, 1e3)
    warmup_steps: int = _ranged(200, 0)
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    final_share: float = _ranged(0.01, 0, 1)
    gradient_clip: float = _ranged(5.0, 0, 1e9)
    ema_decay: float = _ranged(0.998, 0, 1)


@dataclass(frozen=True)
class LossRecipe:
    """Weights of the two tasks and, unless empty, of the segmentation classes; see `training.losses.SupervisedLoss`."""

    segmentation: float = _ranged(1.0, 0, 1e6)
    detection: float = _ranged(1.0, 0, 1e6)
    class_weights: tuple[float, ...] = field(default=(), metadata={"low": 0, "high": 1e6})


@dataclass(frozen=True)
class BackboneRecipe:
    """A backbone of the transformers library in the place of our own; see `training.networks.auto_backbone`.

    Attributes:
        architecture: the model type as transformers' AutoConfig knows it: convnextv2, swin, resnet, dinov2 ...
        pretrained: name on the model hub, or a local folder with config.json and model.safetensors; empty = random
            start.
        settings: keys of that architecture's configuration, over the pretrained ones or the architecture's defaults.
    """

    architecture: str
    pretrained: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = sorted(self.settings.keys() & {"out_features", "out_indices"})
        if chosen:
            raise RecipeError(
                f"backbone.settings.{chosen[0]} follows from the strides that the neck needs; leave it out"
            )


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        name: also the name of the run's folder under `output`.
        size: of backbone, neck and heads; with `backbone`, of neck and heads alone.
        backbone: of the transformers library, instead of our own.
        epochs, batch_size: batch_size is per device.
        precision: `16-mixed` and `bf16-mixed` are for GPUs.
        seed: all randomness of the run follows from it, the epoch and a sample's place in the epoch.
        initial_weights: checkpoint whose averaged weights the run starts from, or several that came from one start, of
            whose weights the mean is taken (a model soup); those of a smaller size are grown; empty = from scratch.
        trained_part: `detection` trains the one-to-one detection branch alone and leaves all the rest, running
            statistics included, exactly as it is: the segmentation of `initial_weights` stays what it was.
        output: folder of runs.
        distillation: the teacher and what is learnt from it; None = from labels alone.
    """

    name: str
    data: DataRecipe
    size: Literal["n", "s", "m", "l"] = "s"
    backbone: BackboneRecipe | None = None
    epochs: int = _ranged(60, 1, 1_000_000)
    batch_size: int = _ranged(12, 1, 65_536)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    seed: int = _ranged(0, 0, 2**63 - 1)
    initial_weights: str | tuple[str, ...] = ""
    trained_part: Literal["all", "detection"] = "all"
    output: Path = Path("out/training")
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    distillation: DistillationRecipe | None = None

    def __post_init__(self) -> None:
        if not is_folder_name(self.name):
            raise RecipeError(f"name becomes a folder: expected {FOLDER_NAME_RULE}, got {self.name!r}")
        if self.data.crop_height % 32 or self.data.crop_width % 32:
            raise RecipeError(
                f"data.crop_height and data.crop_width must be multiples of 32, the coarsest stride of the network, "
                f"got {self.data.crop_height} x {self.data.crop_width}"
            )
        if self.augmentation.scale_min > self.augmentation.scale_max:
            raise RecipeError(
                f"augmentation.scale_min {self.augmentation.scale_min} is above augmentation.scale_max "
                f"{self.augmentation.scale_max}; swap them"
            )
        if len(set(self.starts)) < len(self.starts) or "" in self.starts:
            raise RecipeError(f"initial_weights must be different checkpoints, got {list(self.starts)}")
        if self.trained_part != "all" and not self.starts:
            raise RecipeError(f"trained_part {self.trained_part} needs initial_weights: the rest would stay random")
        if self.distillation is not None:
            self._check_distillation(self.distillation)
        if not self.data.train or sum(source.share for source in self.data.train) <= 0:
            raise RecipeError("data.train needs at least one source with a share above 0")
        kinds = {source.kind for source in self.data.train if source.share > 0}
        if self.distillation is None and kinds <= set(UNLABELED_KINDS):
            raise RecipeError(
                f"data.train has frames without labels alone (kind {', '.join(sorted(kinds))}), from which nothing can "
                "be learnt without a teacher; add a labelled source or a distillation section"
            )
        trained = (
            self.loss.detection if self.trained_part == "detection" else self.loss.detection + self.loss.segmentation
        )
        if self.distillation is None and not trained:
            raise RecipeError(
                f"loss.segmentation {self.loss.segmentation} and loss.detection {self.loss.detection} leave nothing to "
                f"learn where trained_part is {self.trained_part}; set one above 0"
            )
        if self.loss.class_weights and not any(self.loss.class_weights):
            raise RecipeError(
                "loss.class_weights must have a weight above 0, all are 0; leave them empty for equal ones"
            )
        if len(self.loss.class_weights) not in (0, len(SEGMENTATION_CLASSES)):
            raise RecipeError(
                f"loss.class_weights must be empty or name {len(SEGMENTATION_CLASSES)} weights, one for each class, "
                f"got {len(self.loss.class_weights)}"
            )

    @property
    def starts(self) -> tuple[str, ...]:
        """The checkpoints that the run starts from."""
        if isinstance(self.initial_weights, tuple):
            return self.initial_weights
        return (self.initial_weights,) if self.initial_weights else ()

    def _check_distillation(self, settings: DistillationRecipe) -> None:
        problems = settings.problems(self.epochs)
        if settings.cache and not self.data.views_per_frame:
            problems.append("distillation.cache needs data.views_per_frame above 0, for endless views never come again")
        if problems:
            raise RecipeError("; ".join(problems))

    def to_yaml(self) -> str:
        """The recipe with every default written out; reads back to an equal recipe."""
        text: str = yaml.safe_dump(_plain(self), sort_keys=False)
        return text

    @property
    def sha256(self) -> str:
        """Digest of all that the recipe says, whatever the layout of its file."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
