"""Recipes: what a training run is, as YAML checked into dataclasses before anything slow starts."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ros_kd_perception.class_tables import SEGMENTATION_CLASSES
from training.distillation.recipe import DistillationRecipe

MAX_RECIPE_BYTES = 1 << 20


class RecipeError(ValueError):
    """A recipe that cannot be run; the message says which key, what was expected and what to do."""


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
    share: float = _ranged(1.0, 0.0)
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
    samples_per_epoch: int = _ranged(0, 0)
    crop_height: int = _ranged(320, 32, 8192)
    crop_width: int = _ranged(448, 32, 8192)
    workers: int = _ranged(2, 0, 256)
    views_per_frame: int = _ranged(0, 0)


@dataclass(frozen=True)
class ValidationRecipe:
    """Frames to score while training, with the averaged weights.

    Attributes:
        segmentation: source for the mean IoU; its folder may be absent where `required` is false.
        detection: source for the car AP50.
        every_epochs: also always after the last epoch.
        input_height, input_width: the letterbox, as it will be exported.
        required: whether a missing validation folder is an error (else it is said and skipped).
        best_by: which figure the best checkpoint is chosen by.
    """

    segmentation: SourceRecipe | None = None
    detection: SourceRecipe | None = None
    every_epochs: int = _ranged(5, 1)
    input_height: int = _ranged(384, 32, 8192)
    input_width: int = _ranged(640, 32, 8192)
    required: bool = True
    best_by: Literal["miou", "car_ap50"] = "miou"


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW with a warm-up by steps and a decay to `final_share` of the rate at the end of the run."""

    learning_rate: float = _ranged(2e-3, 0)
    weight_decay: float = _ranged(0.02, 0)
    warmup_steps: int = _ranged(200, 0)
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    final_share: float = _ranged(0.01, 0, 1)
    gradient_clip: float = _ranged(5.0, 0)
    ema_decay: float = _ranged(0.998, 0, 1)


@dataclass(frozen=True)
class LossRecipe:
    """Weights of the two tasks and, unless empty, of the segmentation classes; see `training.losses.SupervisedLoss`."""

    segmentation: float = _ranged(1.0, 0)
    detection: float = _ranged(1.0, 0)
    class_weights: tuple[float, ...] = field(default=(), metadata={"low": 0})


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        name: also the name of the run's folder under `output`.
        size: the student's size.
        epochs, batch_size: batch_size is per device.
        precision: `16-mixed` and `bf16-mixed` are for GPUs.
        seed: all randomness of the run follows from it, the epoch and a sample's place in the epoch.
        initial_weights: checkpoint whose averaged weights the run starts from; empty = from scratch.
        trained_part: `detection` trains the one-to-one detection branch alone and leaves all the rest, running
            statistics included, exactly as it is: the segmentation of `initial_weights` stays what it was.
        output: folder of runs.
        distillation: the teacher and what is learnt from it; None = from labels alone.
    """

    name: str
    data: DataRecipe
    size: Literal["n", "s", "m"] = "s"
    epochs: int = _ranged(60, 1)
    batch_size: int = _ranged(12, 1)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    seed: int = _ranged(0, 0)
    initial_weights: str = ""
    trained_part: Literal["all", "detection"] = "all"
    output: Path = Path("out/training")
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    distillation: DistillationRecipe | None = None

    def __post_init__(self) -> None:
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
        if self.trained_part != "all" and not self.initial_weights:
            raise RecipeError(f"trained_part {self.trained_part} needs initial_weights: the rest would stay random")
        if self.distillation is not None:
            self._check_distillation(self.distillation)
        if not self.data.train or sum(source.share for source in self.data.train) <= 0:
            raise RecipeError("data.train needs at least one source with a share above 0")
        if len(self.loss.class_weights) not in (0, len(SEGMENTATION_CLASSES)):
            raise RecipeError(
                f"loss.class_weights must be empty or name {len(SEGMENTATION_CLASSES)} weights, one for each class, "
                f"got {len(self.loss.class_weights)}"
            )

    def _check_distillation(self, settings: DistillationRecipe) -> None:
        problems = settings.problems()
        if settings.cache and not self.data.views_per_frame:
            problems.append("distillation.cache needs data.views_per_frame above 0, for endless views never come again")
        if problems:
            raise RecipeError("; ".join(problems))

    def to_yaml(self) -> str:
        """The recipe with every default written out; reads back to an equal recipe."""
        return yaml.safe_dump(_plain(self), sort_keys=False)

    @property
    def sha256(self) -> str:
        """Digest of all that the recipe says, whatever the layout of its file."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: YAML file.
        overrides: `key=value` with a dotted key (`optimizer.learning_rate=1e-3`, `data.train.0.folder=x`).

    Raises:
        RecipeError: not readable, an unknown key, a wrong type or a number out of range.
    """
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise RecipeError(f"{path}: a recipe is a short text, this file has {path.stat().st_size} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe ({error}); recipes are in training/recipes/") from error
    return parse_recipe(text, overrides, where=str(path))


def parse_recipe(text: str, overrides: Sequence[str] = (), where: str = "recipe") -> Recipe:
    """Check YAML text into a Recipe; see `load_recipe`."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: expected keys with values, got {type(content).__name__}")
    for override in overrides:
        _apply_override(content, override)
    try:
        recipe = _check(content, Recipe, "", {})
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    assert isinstance(recipe, Recipe)
    return recipe


def _apply_override(content: dict[Any, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--override needs key=value, for example epochs=3, got '{override}'")
    *parents, last = key.split(".")
    place: Any = content
    try:
        for parent in parents:
            if isinstance(place, list):
                place = place[int(parent)]
            else:
                place = place.setdefault(parent, {})
        if isinstance(place, list):
            place[int(last)] = yaml.safe_load(value)
        elif isinstance(place, dict):
            place[last] = yaml.safe_load(value)
        else:
            raise TypeError(f"{'.'.join(parents)} holds {place!r}, which has no keys")
    except (ValueError, IndexError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RecipeError(f"--override {override}: no such place in the recipe ({error})") from error


def _check(value: Any, expected: Any, key: str, limits: Mapping[str, Any]) -> Any:
    """Check a value read from YAML against a type; `limits` are the field's low and high."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if dataclasses.is_dataclass(expected):
        return _check_section(value, typing.cast(type, expected), key)
    if origin is Literal:
        if value not in arguments:
            names = ", ".join(map(str, arguments))
            raise RecipeError(f"{key} must be one of {names}, got {value!r}{_near(value, arguments)}")
        return value
    if origin is types.UnionType:
        if value is None and types.NoneType in arguments:
            return None
        members = [member for member in arguments if member is not types.NoneType]
        return _check(value, members[0] if len(members) == 1 else _by_kind(value, members, key), key, limits)
    if origin is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{key} must be a list, got {value!r}")
        return tuple(_check(item, arguments[0], f"{key}.{number}", limits) for number, item in enumerate(value))
    return _check_scalar(value, expected, key, limits)


def _by_kind(value: Any, members: Sequence[type], key: str) -> type:
    """The section among several that says `kind: ...` as the value does."""
    by_kind = {typing.get_args(typing.get_type_hints(member)["kind"])[0]: member for member in members}
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in by_kind:
        raise RecipeError(f"{key}.kind must be one of {', '.join(by_kind)}, got {kind!r}{_near(kind, by_kind)}")
    return by_kind[kind]


def _check_section(value: Any, section: type, key: str) -> Any:
    if not isinstance(value, dict):
        raise RecipeError(f"{key or 'the recipe'} must hold keys with values, got {value!r}")
    hints = typing.get_type_hints(section)
    prefix = f"{key}." if key else ""
    fields = {item.name: item for item in dataclasses.fields(section)}
    for name in value:
        if name not in fields:
            raise RecipeError(f"unknown key {prefix}{name}{_near(name, fields)}")
    for name, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise RecipeError(f"key {prefix}{name} is missing")
    checked = {
        name: _check(content, hints[name], prefix + name, fields[name].metadata) for name, content in value.items()
    }
    return section(**checked)


def _check_scalar(value: Any, expected: type, key: str, limits: Mapping[str, Any]) -> Any:
    if expected is Path and isinstance(value, str) and value:
        return Path(value)
    if expected is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 (no dot) as text; everybody writes learning rates so.
        try:
            value = float(value)
        except ValueError:
            pass
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
        raise RecipeError(f"{key} must be {_words(expected)}, got {value!r}")
    low, high = limits.get("low"), limits.get("high")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not _within(value, low, high):
        asked = f"at least {low}" if high is None else f"from {low} to {high}"
        raise RecipeError(f"{key} must be {asked}, got {value}")
    return value


def _within(value: float, low: float | None, high: float | None) -> bool:
    return math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)


def _words(expected: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}[expected]


def _near(name: object, valid: typing.Iterable[object]) -> str:
    """The end of a sentence that refuses a name: the nearest valid one, or all of them."""
    names = [str(item) for item in valid]
    matches = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; valid are {', '.join(names)}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
