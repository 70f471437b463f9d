"""Finds the class of an object by the name that it has in the files of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from training.config.sentences import suggestion
from training.label_sets.label_set import LabelSet

EVERY_CLASS = -1


@dataclass(frozen=True)
class ObjectClass:
    """What the name of an object says.

    Attributes:
        id: Id of its class of boxes in the label set, or EVERY_CLASS.
        ignored: Whether its region teaches nothing about that class.
    """

    id: int
    ignored: bool = False


class ObjectNames:
    """The names that the objects of a data set may have."""

    def __init__(self, label_set: LabelSet, group_ending: str = "") -> None:
        """Collect the names of a label set.

        Args:
            label_set: The set of the data set.
            group_ending: Ending that makes of the name of a class the name of a group of its objects, which the
                annotator could not tell apart. A group is a region that teaches nothing about the class. Empty if the
                data set has no such names.
        """
        self._group_ending = group_ending
        ids = {info.name: info.id for info in label_set.detection}
        self._boxes = {name: ObjectClass(number) for name, number in ids.items()}
        self._boxes |= {name: ObjectClass(ids[target]) for name, target in label_set.aliases.items()}
        self._boxes |= {
            name: ObjectClass(ids[target] if target else EVERY_CLASS, ignored=True)
            for name, target in label_set.ignore_regions.items()
        }
        self._without_boxes = {info.name for info in label_set.segmentation} | set(label_set.without_class)
        self._without_boxes -= self._boxes.keys()

    def find(self, name: str) -> ObjectClass | None:
        """Return the class of the objects of this name; None if they have no boxes.

        Raises:
            KeyError: The data set has no such name. The key is the end of a sentence, with the nearest name.
        """
        if name in self._boxes:
            return self._boxes[name]
        if name in self._without_boxes:
            return None
        single = name.removesuffix(self._group_ending) if self._group_ending else name
        if single != name and single in self._boxes:
            return ObjectClass(self._boxes[single].id, ignored=True)
        if single != name and single in self._without_boxes:
            return None
        raise KeyError(f"{name[:80]!r}{suggestion(name, sorted({*self._boxes, *self._without_boxes}))}")
