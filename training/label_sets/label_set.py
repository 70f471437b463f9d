"""LabelSet: the classes of masks and boxes, as a YAML file describes them.

A student has a label set, and so have each source of frames and each teacher. Classes of two sets are matched by name
(`training.label_sets.mapping`), never by number.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ros_kd_perception.model.contract import ClassInfo
from training.config.settings import Settings
from training.errors import RecipeError

UNLABELED_ID = 255  # in the masks of every set, and in class maps: "not labelled"
LARGEST_ID = 65534  # masks have up to 16 bits
STUDENT_CLASSES_MAX = 255
_GOLDEN_RATIO = 0.618034

Channel = Annotated[int, Field(ge=0, le=255)]
Share = Annotated[float, Field(ge=0, le=1)]


class LabelClass(Settings):
    """A class of masks or of boxes."""

    id: Annotated[int, Field(ge=0, le=LARGEST_ID)]
    """Value in the mask, or number in the file of boxes."""
    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Name, unique within masks and within boxes."""
    color: Annotated[tuple[Channel, ...], Field(min_length=3, max_length=3)] | None = None
    """Red, green and blue in pictures, 0..255; null chooses one."""


class BoxClass(LabelClass):
    """A class of boxes."""

    region: str = ""
    """The class of masks that the pixels of these objects have; empty = the one of the same name, if there is one."""


class NameTable(Settings):
    """Which class of another set a class becomes, by name."""

    segmentation: dict[str, str] = Field(default_factory=dict)
    """Classes of masks: the other set's name, or `ignore` for pixels that teach nothing."""
    detection: dict[str, str] = Field(default_factory=dict)
    """Classes of boxes: the other set's name, `ignore` for regions that teach nothing, or `background` for objects
    that do not count, as if nothing were there."""

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.segmentation.items())), tuple(sorted(self.detection.items()))))

    def over(self, other: NameTable) -> NameTable:
        """Return a table with the entries of both; those of this one count where both name a class."""
        return NameTable(
            segmentation=other.segmentation | self.segmentation, detection=other.detection | self.detection
        )


class LabelSet(Settings):
    """The classes of a student, of a source of frames, or of a teacher."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    """Name of the set."""
    segmentation: tuple[LabelClass, ...] = ()
    """Classes of masks; empty if the set has boxes only."""
    detection: tuple[BoxClass, ...] = ()
    """Classes of boxes; empty if the set has masks only."""
    void_ids: tuple[Annotated[int, Field(ge=0, le=LARGEST_ID)], ...] = ()
    """Values in masks that mean "not labelled", besides 255."""
    rare: tuple[str, ...] = ()
    """Classes of masks that augmentation may copy from one frame into another."""
    drivable: tuple[str, ...] = ()
    """Classes of masks that a vehicle can drive on."""
    aliases: dict[str, str] = Field(default_factory=dict)
    """Other names of classes of boxes in the files of a data set, each with the name of its class here."""
    ignore_regions: dict[str, str] = Field(default_factory=dict)
    """Names in the files of a data set whose objects teach nothing about a class of boxes, each with the name of that
    class; an empty name stands for every class."""
    without_class: tuple[str, ...] = ()
    """Names in the files of a data set that stand for no class at all."""
    usual_share: dict[str, Annotated[tuple[Share, ...], Field(min_length=2, max_length=2)]] = Field(
        default_factory=dict
    )
    """Smallest and largest share of the labelled pixels that a class of masks has in a whole source. Masks outside of
    it belong to another set, or to unusual places."""
    mappings: dict[str, NameTable] = Field(default_factory=dict)
    """Tables to other sets, by the name of the set."""

    @field_validator("usual_share", mode="before")
    @classmethod
    def _pairs(cls, shares: object) -> object:
        return (
            {k: tuple(v) if isinstance(v, list) else v for k, v in shares.items()}
            if isinstance(shares, dict)
            else shares
        )

    @model_validator(mode="after")
    def _check(self) -> LabelSet:
        for task, classes in self.by_task.items():
            _check_unique(f"label set {self.name}: {task}", classes)
        names = {info.name for info in self.segmentation}
        for key, named in (("rare", self.rare), ("drivable", self.drivable), ("usual_share", self.usual_share)):
            strange = sorted(set(named) - names)
            if strange:
                raise RecipeError(
                    f"label set {self.name}: {key} must name classes of its segmentation, got {', '.join(strange)}; "
                    f"it has {', '.join(sorted(names)) or 'none'}"
                )
        for info in self.detection:
            if info.region and info.region not in names:
                raise RecipeError(
                    f"label set {self.name}: detection class {info.name} has region {info.region}, which its "
                    "segmentation lacks; correct the name, or leave it out"
                )
        self._check_names_in_files()
        void = sorted({info.id for info in self.segmentation} & {*self.void_ids, UNLABELED_ID})
        if void:
            raise RecipeError(
                f"label set {self.name}: the ids {void} mean not labelled and cannot be a class as well; change "
                "void_ids"
            )
        return self

    def _check_names_in_files(self) -> None:
        boxes = {info.name for info in self.detection}
        for key, targets in (("aliases", self.aliases.values()), ("ignore_regions", self.ignore_regions.values())):
            strange = sorted(set(targets) - boxes - ({""} if key == "ignore_regions" else set()))
            if strange:
                raise RecipeError(
                    f"label set {self.name}: {key} must lead to classes of its detection, got {', '.join(strange)}; "
                    f"it has {', '.join(sorted(boxes)) or 'none'}"
                )

    @property
    def by_task(self) -> dict[str, Sequence[LabelClass]]:
        """The classes of masks and of boxes, under the names of their keys."""
        return {"segmentation": self.segmentation, "detection": self.detection}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the set has classes for: `segmentation`, `detection` or both."""
        return tuple(task for task, classes in self.by_task.items() if classes)

    @property
    def segmentation_classes(self) -> tuple[ClassInfo, ...]:
        """The classes of masks in the order of their ids, with a colour each."""
        ordered = sorted(self.segmentation, key=lambda info: info.id)
        return tuple(ClassInfo(info.id, info.name, _color(info, place)) for place, info in enumerate(ordered))

    @property
    def detection_classes(self) -> tuple[ClassInfo, ...]:
        """The classes of boxes in the order of their ids; a box without a colour has that of its region."""
        colors = {info.name: info.color_rgb for info in self.segmentation_classes}
        regions, ordered = self.regions, sorted(self.detection, key=lambda info: info.id)
        return tuple(
            ClassInfo(
                info.id,
                info.name,
                colors.get(regions.get(info.name, ""), _color(info, place))
                if info.color is None
                else _color(info, place),
            )
            for place, info in enumerate(ordered)
        )

    @property
    def regions(self) -> Mapping[str, str]:
        """The class of masks of each class of boxes, by name; a class of boxes without one is absent."""
        names = {info.name for info in self.segmentation}
        named = {info.name: info.region or info.name for info in self.detection}
        return {name: region for name, region in named.items() if region in names}

    @property
    def region_ids(self) -> dict[int, int]:
        """The id of masks of each id of boxes; a class of boxes without a region is absent."""
        ids = {info.name: info.id for info in self.segmentation}
        return {info.id: ids[self.regions[info.name]] for info in self.detection if info.name in self.regions}

    @property
    def rare_ids(self) -> tuple[int, ...]:
        """The ids of the rare classes of masks."""
        return tuple(info.id for info in self.segmentation if info.name in self.rare)

    def as_student(self) -> LabelSet:
        """Return the same classes with ids that a network can have: they count from 0, in the order of the ids here."""
        numbered = {
            task: tuple(info.replace(id=place) for place, info in enumerate(sorted(classes, key=lambda info: info.id)))
            for task, classes in self.by_task.items()
        }
        return self if numbered == self.by_task else self.replace(**numbered, void_ids=())

    def check_classes(self) -> None:
        """Refuse a set without classes.

        Raises:
            RecipeError: There are no classes.
        """
        if not self.tasks:
            raise RecipeError(f"label set {self.name} needs classes of masks (segmentation) or of boxes (detection)")

    def check_student(self) -> None:
        """Refuse a set that a network's outputs cannot have: their ids count from 0.

        Raises:
            RecipeError: The ids of a task have gaps, or there are too many classes, or none.
        """
        self.check_classes()
        for task, classes in self.by_task.items():
            ids = sorted(info.id for info in classes)
            if ids != list(range(len(ids))) or len(ids) > STUDENT_CLASSES_MAX:
                raise RecipeError(
                    f"label set {self.name}: a student's ids of {task} count from 0 to at most "
                    f"{STUDENT_CLASSES_MAX - 1} without gaps, got {ids[:40]}; write a set with such ids, to which "
                    "the masks of the source are mapped by name"
                )


def _check_unique(where: str, classes: Sequence[LabelClass]) -> None:
    for what in ("id", "name"):
        values = [str(getattr(info, what)) for info in classes]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise RecipeError(f"{where}: expected every {what} once, got {', '.join(twice)} twice; correct it")


def _color(info: LabelClass, place: int) -> tuple[int, int, int]:
    """Return the colour of a class, or one that differs from those of its neighbours in the list."""
    if info.color is not None:
        red, green, blue = info.color
        return red, green, blue
    chosen = colorsys.hsv_to_rgb(place * _GOLDEN_RATIO % 1.0, 0.65, 0.9)
    return round(chosen[0] * 255), round(chosen[1] * 255), round(chosen[2] * 255)
