"""The classes of two sides, matched by name. Ids and colours may differ."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ros_kd_perception.model.contract import ClassInfo, ModelContract

UNLABELED_ID = 255

_GOLDEN_ANGLE = 0.381966


@dataclass(frozen=True)
class SideClasses:
    """The classes of one side. A task that the side does not do is None.

    Attributes:
        masks: Classes of the pixels, without the unlabeled one.
        boxes: Classes of the boxes.
        unlabeled_id: Id of pixels without a class.
    """

    masks: tuple[ClassInfo, ...] | None
    boxes: tuple[ClassInfo, ...] | None
    unlabeled_id: int = UNLABELED_ID

    @classmethod
    def of(cls, contract: ModelContract) -> SideClasses:
        """Return the classes of a contract."""
        masks = None if contract.class_map is None else contract.segmentation_classes
        boxes = None if contract.detections is None else contract.detection_classes
        return cls(masks, boxes, UNLABELED_ID if masks is None else contract.unlabeled_id)

    @property
    def segmentation_classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the pixels, to draw them."""
        return self.masks or ()

    @property
    def detection_classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the boxes, to draw them."""
        return self.boxes or ()


def classes_of_names(names: Mapping[int, str], colors: dict[str, tuple[int, int, int]]) -> tuple[ClassInfo, ...]:
    """Give classes that are known by name alone a colour each. A name has one colour on both sides.

    Args:
        names: Names by id.
        colors: RGB colours by name so far. New names are added.
    """
    for name in names.values():
        if name not in colors:
            hue = len(colors) * _GOLDEN_ANGLE % 1.0
            red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, (1.0, 0.8, 0.6)[len(colors) % 3])
            colors[name] = (round(255 * red), round(255 * green), round(255 * blue))
    return tuple(ClassInfo(class_id, name, colors[name]) for class_id, name in names.items())


@dataclass(frozen=True)
class CommonClasses:
    """The classes that both sides have, by name, of one task.

    Attributes:
        names: Common names, in the order of the old side.
        only_old, only_new: Names that one side has.
        old_index, new_index: Index in `names` of each id of a side, int32 `[256]`. `len(names)` for the unlabeled id of
            masks, `len(names) + 1` for all other ids.
    """

    names: tuple[str, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    old_index: npt.NDArray[np.int32]
    new_index: npt.NDArray[np.int32]

    @classmethod
    def of(
        cls, old: tuple[ClassInfo, ...], new: tuple[ClassInfo, ...], unlabeled_ids: tuple[int, int] | None = None
    ) -> CommonClasses:
        """Match classes by name.

        Args:
            old: Classes of the old side.
            new: Classes of the new side.
            unlabeled_ids: Ids of pixels without a class on the old and on the new side. None for boxes.
        """
        old_names, new_names = (tuple(dict.fromkeys(info.name for info in side)) for side in (old, new))
        common = tuple(name for name in old_names if name in new_names)
        tables = []
        for place, side in enumerate((old, new)):
            table = np.full(256, len(common) + 1, np.int32)
            for info in side:
                if info.name in common:
                    table[info.id] = common.index(info.name)
            if unlabeled_ids is not None:
                table[unlabeled_ids[place]] = len(common)
            tables.append(table)
        return cls(
            common,
            tuple(name for name in old_names if name not in common),
            tuple(name for name in new_names if name not in common),
            tables[0],
            tables[1],
        )

    @property
    def are_equal(self) -> bool:
        """Whether both sides have the same names."""
        return not self.only_old and not self.only_new

    def only_in_words(self) -> str:
        """Return which names only one side has."""
        sides = (("old", self.only_old), ("new", self.only_new))
        return " and ".join(f"{', '.join(names)} only on the {side} side" for side, names in sides if names)


class NothingInCommon(ValueError):
    """The two sides cannot be compared. The text is one sentence that says what to do."""


@dataclass(frozen=True)
class ComparedClasses:
    """The classes of both sides and what they have in common. A task that is not compared is None.

    Attributes:
        old, new: The classes of the sides.
        masks: Common classes of the pixels.
        boxes: Common classes of the boxes.
    """

    old: SideClasses
    new: SideClasses
    masks: CommonClasses | None
    boxes: CommonClasses | None

    @classmethod
    def of(cls, old: SideClasses, new: SideClasses) -> ComparedClasses:
        """Match the classes of two sides.

        Raises:
            NothingInCommon: No task is done by both sides with a class that both have.
        """
        masks = boxes = None
        if old.masks is not None and new.masks is not None:
            masks = CommonClasses.of(old.masks, new.masks, (old.unlabeled_id, new.unlabeled_id))
        if old.boxes is not None and new.boxes is not None:
            boxes = CommonClasses.of(old.boxes, new.boxes)
        masks, boxes = (task if task and task.names else None for task in (masks, boxes))
        if masks is None and boxes is None:
            raise NothingInCommon(
                f"expected two sides with a class of the same name in masks or in boxes, got {_in_words(old)} on the "
                f"old side and {_in_words(new)} on the new side; compare sides of one label set"
            )
        return cls(old, new, masks, boxes)

    def notes(self) -> list[str]:
        """Return sentences about what is not compared."""
        notes = []
        for task, common, sides in (
            ("masks", self.masks, (self.old.masks, self.new.masks)),
            ("boxes", self.boxes, (self.old.boxes, self.new.boxes)),
        ):
            if common is None:
                if any(side is not None for side in sides):
                    notes.append(f"{task} are not compared: they have no common class, or only one side has them")
            elif not common.are_equal:
                notes.append(
                    f"the label sets of the {task} differ: compared are the {len(common.names)} classes with the same "
                    f"name; left out is {common.only_in_words()}"
                )
        return notes


def _in_words(side: SideClasses) -> str:
    parts = [
        f"{task} of {', '.join(info.name for info in classes)}"
        for task, classes in (("masks", side.masks), ("boxes", side.boxes))
        if classes
    ]
    return " and ".join(parts) or "no classes"
