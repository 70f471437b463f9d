"""LabelMapping: which class of the student each class of a source or a teacher is, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from training.errors import RecipeError
from training.label_sets.label_set import UNLABELED_ID, LabelClass, LabelSet, NameTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORE = "ignore"  # teaches nothing: neither that the class is there nor that it is not
BACKGROUND = "background"  # of boxes: an object that does not count, as if nothing were there
UNKNOWN_ID = 256  # in `LabelMapping.mask_ids`: the set has no such id
IGNORED_BOX = -1
BACKGROUND_BOX = -2


@dataclass(frozen=True)
class LabelMapping:
    """The classes of one set, each with its class in the student's set.

    Attributes:
        source: The set of the masks and boxes that are read, or of a teacher's outputs.
        student: The set of the student.
        segmentation: Student's class, or `ignore`, of every class of masks of the source, by name.
        detection: Student's class, `ignore` or `background`, of every class of boxes of the source, by name.
    """

    source: LabelSet
    student: LabelSet
    segmentation: dict[str, str]
    detection: dict[str, str]

    @classmethod
    def between(
        cls, source: LabelSet, student: LabelSet, table: NameTable | None = None, where: str = ""
    ) -> LabelMapping:
        """Match the classes of two sets.

        A class is looked up in `table`, then in the tables of the source's own file, and then has the student's class
        of the same name.

        Args:
            source: Set to map from.
            student: Set to map to.
            table: Entries that count before those of the files.
            where: Begins errors, for example `data.train.0`.

        Raises:
            RecipeError: A class of the source is in no table and not in the student's set, or a table names a class
                that does not exist.
        """
        names = (table or NameTable()).over(source.mappings.get(student.name, NameTable()))
        start = f"{where}: " if where else ""
        pair = f"{start}label set {source.name} to {student.name}"
        tasks = [
            (task, _match(f"{pair}, {task}", classes, student.by_task[task], getattr(names, task), endings))
            for (task, classes), endings in zip(source.by_task.items(), ((IGNORE,), (IGNORE, BACKGROUND)), strict=True)
        ]
        return cls(source, student, **dict(tasks))

    @cached_property
    def mask_ids(self) -> NDArray[np.uint16]:
        """Student's id of every value of a mask, uint16 [65536]: 255 = not labelled, UNKNOWN_ID = not in the set."""
        import numpy as np

        ids = {info.name: info.id for info in self.student.segmentation} | {IGNORE: UNLABELED_ID}
        table = np.full(1 << 16, UNKNOWN_ID, np.uint16)
        table[[UNLABELED_ID, *self.source.void_ids]] = UNLABELED_ID
        for info in self.source.segmentation:
            table[info.id] = ids[self.segmentation[info.name]]
        return table

    @cached_property
    def box_ids(self) -> dict[int, int]:
        """Student's id of every id of a box, or IGNORED_BOX or BACKGROUND_BOX."""
        ids = {info.name: info.id for info in self.student.detection}
        ids |= {IGNORE: IGNORED_BOX, BACKGROUND: BACKGROUND_BOX}
        return {info.id: ids[self.detection[info.name]] for info in self.source.detection}

    @cached_property
    def covered_segmentation(self) -> tuple[bool, ...]:
        """Whether the source labels each class of masks of the student, in the order of their ids."""
        found = set(self.segmentation.values())
        return tuple(info.name in found for info in self.student.segmentation_classes)

    @cached_property
    def covered_detection(self) -> tuple[bool, ...]:
        """Whether the source labels each class of boxes of the student, in the order of their ids."""
        found = set(self.detection.values())
        return tuple(info.name in found for info in self.student.detection_classes)


def _match(
    where: str,
    classes: Sequence[LabelClass],
    targets: Sequence[LabelClass],
    table: dict[str, str],
    endings: tuple[str, ...],
) -> dict[str, str]:
    """Return the target of every class, by name."""
    if not targets:  # the student does not have the task
        return {info.name: IGNORE for info in classes}
    known = {info.name for info in classes}
    names = {info.name for info in targets}
    strange = sorted(table.keys() - known)
    if strange:
        raise RecipeError(
            f"{where}: the table names {', '.join(strange)}, which the first set lacks; it has {_list(known)}"
        )
    wrong = sorted({target for target in table.values() if target not in names and target not in endings})
    if wrong:
        raise RecipeError(
            f"{where}: the table leads to {', '.join(wrong)}; name one of {_list(names)}, or {' or '.join(endings)}"
        )
    found = {info.name: table.get(info.name, info.name if info.name in names else "") for info in classes}
    lost = [name for name, target in found.items() if not target]
    if lost:
        raise RecipeError(
            f"{where}: {', '.join(lost)} map{'s' * (len(lost) == 1)} to nothing; add to the table what each becomes, "
            f"one of {_list(names)}, or {' or '.join(endings)}"
        )
    return found


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "no classes"
