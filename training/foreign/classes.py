"""The classes of a foreign network's output: which channel or number stands for which class of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.contract import ClassInfo
from training.errors import RecipeError
from training.foreign.description import ForeignDescription, SegmentationDescription
from training.foreign.detection_forms import Detection, NmsDoneForm
from training.label_sets.label_set import UNLABELED_ID, BoxClass, LabelClass, LabelSet, NameTable
from training.label_sets.loading import load_label_set

LARGEST_CLASS_ID = UNLABELED_ID - 1


@dataclass(frozen=True)
class OutputClasses:
    """The classes of one task.

    Attributes:
        numbers: What the network calls each of its classes, in the order of its channels.
        kept: Whether boxes or pixels of a class are reported, for each channel.
        classes: The reported classes, in the order of the channels.
    """

    numbers: tuple[int, ...]
    kept: tuple[bool, ...]
    classes: tuple[ClassInfo, ...]

    @property
    def channels(self) -> int:
        """How many classes the network tells apart."""
        return len(self.numbers)

    @property
    def kept_channels(self) -> NDArray[np.int64]:
        """The channels of the reported classes."""
        return np.flatnonzero(self.kept)

    @property
    def kept_ids(self) -> NDArray[np.int32]:
        """The ids of the reported classes in the contract, in the order of the channels."""
        return np.array([info.id for info in self.classes], np.int32)

    @property
    def id_of_channel(self) -> NDArray[np.uint8]:
        """The id in the contract of each channel; 255 for an ignored one."""
        ids = np.full(self.channels, UNLABELED_ID, np.uint8)
        ids[self.kept_channels] = self.kept_ids
        return ids

    @property
    def id_of_number(self) -> NDArray[np.uint8]:
        """The id in the contract of the numbers -1..256; 255 for those that are no reported class, uint8 [258]."""
        ids = np.full(UNLABELED_ID + 3, UNLABELED_ID, np.uint8)
        ids[1 + np.array(self.numbers)[self.kept_channels]] = self.kept_ids
        return ids

    @property
    def place_of_number(self) -> NDArray[np.int64]:
        """The place in `classes` of the numbers -1..256; one more than the last for all others, int64 [258]."""
        places = np.full(UNLABELED_ID + 3, len(self.classes), np.int64)
        places[1 + np.array(self.numbers)[self.kept_channels]] = np.arange(len(self.classes))
        return places

    @property
    def place_of_id(self) -> NDArray[np.int64]:
        """The place in `classes` of the ids 0..255; one more than the last for all others, int64 [256]."""
        places = np.full(UNLABELED_ID + 1, len(self.classes), np.int64)
        places[self.kept_ids] = np.arange(len(self.classes))
        return places


def segmentation_classes(description: ForeignDescription) -> OutputClasses | None:
    """Return the classes of the masks; None without that task.

    Raises:
        RecipeError: There is no such label set, it has no masks, or a name does not exist.
    """
    part = description.segmentation
    return _classes_of("segmentation", part, part.numbering) if part else None


def detection_classes(description: ForeignDescription) -> OutputClasses | None:
    """Return the classes of the boxes; None without that task.

    Raises:
        RecipeError: There is no such label set, it has no boxes, or a name does not exist.
    """
    part = description.detection
    return (
        _classes_of("detection", part, part.numbering if isinstance(part, NmsDoneForm) else "from_0") if part else None
    )


def own_label_set(description: ForeignDescription, name: str) -> LabelSet:
    """Return the classes that the network reports as a label set, with the tables of the sets that it is described by.

    Args:
        description: The network.
        name: Name of the set, where no set of one name describes all of it.
    """
    parts = (description.segmentation, description.detection)
    named = [load_label_set(part.classes) for part in parts if part and isinstance(part.classes, str)]
    masks, boxes = segmentation_classes(description), detection_classes(description)
    mask_names = {info.name for info in masks.classes} if masks else set()
    box_names = {info.name for info in boxes.classes} if boxes else set()
    mappings: dict[str, NameTable] = {}
    for label_set in named:
        for target, table in label_set.mappings.items():
            known = NameTable(
                segmentation={old: new for old, new in table.segmentation.items() if old in mask_names},
                detection={old: new for old, new in table.detection.items() if old in box_names},
            )
            mappings[target] = known.over(mappings.get(target, NameTable()))
    names = {label_set.name for label_set in named}
    return LabelSet(
        name=names.pop() if len(names) == 1 else name,
        segmentation=tuple(LabelClass(id=info.id, name=info.name, color=info.color_rgb) for info in masks.classes)
        if masks
        else (),
        detection=tuple(BoxClass(id=info.id, name=info.name, color=info.color_rgb) for info in boxes.classes)
        if boxes
        else (),
        mappings=mappings,
    )


def _classes_of(task: str, part: SegmentationDescription | Detection, numbering: str) -> OutputClasses:
    infos = _of_set(task, part.classes) if isinstance(part.classes, str) else _of_names(task, part.classes)
    names = [info.name for info in infos if info is not None]
    strange = [name for name in part.ignored if name not in names]
    if strange:
        raise RecipeError(
            f"{task}.ignored names {', '.join(strange)}, which {task}.classes lacks; it has {', '.join(names[:100])}"
        )
    kept = tuple(info is not None and info.name not in part.ignored for info in infos)
    if not any(kept):
        raise RecipeError(f"{task}.ignored leaves no class; take one out")
    first = int(numbering == "from_1")
    return OutputClasses(
        tuple(info.id if numbering == "ids" and info else first + place for place, info in enumerate(infos)),
        kept,
        tuple(info for info, reported in zip(infos, kept, strict=True) if info is not None and reported),
    )


def _of_set(task: str, name: str) -> list[ClassInfo | None]:
    found = load_label_set(name)
    classes = found.segmentation_classes if task == "segmentation" else found.detection_classes
    if not classes:
        raise RecipeError(f"{task}.classes: label set {name} has no classes for {task}; name another set, or list them")
    if classes[-1].id > LARGEST_CLASS_ID:
        raise RecipeError(
            f"{task}.classes: expected ids of at most {LARGEST_CLASS_ID} in label set {name}, got {classes[-1].id}; "
            "list the names instead"
        )
    return list(classes)


def _of_names(task: str, names: Sequence[str | None]) -> list[ClassInfo | None]:
    listed = [(number, name) for number, name in enumerate(names) if name is not None]
    if not listed or listed[-1][0] > LARGEST_CLASS_ID:
        raise RecipeError(
            f"{task}.classes: expected names for 1 to {LARGEST_CLASS_ID + 1} classes, got {len(names)} entries; write "
            "null for those that you do not need, at the end leave them out"
        )
    # A label set chooses colours where none are given.
    colored = LabelSet(name="listed", detection=tuple(BoxClass(id=number, name=name) for number, name in listed))
    infos = {info.id: info for info in colored.detection_classes}
    return [infos.get(number) for number in range(len(names))]
