"""LabelMapping: which class of the student each class of a source or a teacher is, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

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
ENDINGS = {"segmentation": (IGNORE,), "detection": (IGNORE, BACKGROUND)}  # what a class may become, by task

Via = Literal["same name", "table of the set", "table of the recipe", "task not learnt", "nothing"]


@dataclass(frozen=True)
class Match:
    """What a class of a source becomes.

    Attributes:
        target: Student's class, `ignore` or `background`; empty if the class maps to nothing.
        via: Where the target comes from. `task not learnt`: the student has no classes of this task, so all classes
            are ignored.
    """

    target: str
    via: Via


Matches = dict[str, dict[str, Match]]
"""What every class becomes, by task and name."""


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
        matches = match_classes(source, student, table, where)
        _refuse_lost(_pair(source, student, where), matches, student)
        targets = {task: {name: match.target for name, match in found.items()} for task, found in matches.items()}
        return cls(source, student, **targets)

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


def match_classes(source: LabelSet, student: LabelSet, table: NameTable | None = None, where: str = "") -> Matches:
    """Match the classes of two sets; see `LabelMapping.between`. A class that maps to nothing is no error here.

    Raises:
        RecipeError: A table names a class that does not exist.
    """
    tables: dict[Via, NameTable] = {
        "table of the recipe": table or NameTable(),
        "table of the set": source.mappings.get(student.name, NameTable()),
    }
    matches = {}
    for task, classes in source.by_task.items():
        targets = student.by_task[task]
        entries: dict[Via, dict[str, str]] = {via: getattr(names, task) for via, names in tables.items()}
        if targets:
            for entry in entries.values():
                _check_table(f"{_pair(source, student, where)}, {task}", entry, classes, targets, ENDINGS[task])
            names = {info.name for info in targets}
            matches[task] = {info.name: _match(info.name, names, entries) for info in classes}
        else:
            matches[task] = {info.name: Match(IGNORE, "task not learnt") for info in classes}
    return matches


def _match(name: str, targets: set[str], tables: Mapping[Via, Mapping[str, str]]) -> Match:
    for via, table in tables.items():
        if name in table:
            return Match(table[name], via)
    return Match(name, "same name") if name in targets else Match("", "nothing")


def _check_table(
    where: str,
    table: Mapping[str, str],
    classes: Sequence[LabelClass],
    targets: Sequence[LabelClass],
    endings: tuple[str, ...],
) -> None:
    """Refuse a table with a class that the first or the second set lacks."""
    known, names = {info.name for info in classes}, {info.name for info in targets}
    strange = sorted(table.keys() - known)
    if strange:
        raise RecipeError(
            f"{where}: the table names {', '.join(strange)}, which the first set lacks; it has {_list(known)}"
        )
    wrong = sorted(set(table.values()) - names - {*endings})
    if wrong:
        raise RecipeError(
            f"{where}: the table leads to {', '.join(wrong)}; name one of {_list(names)}, or {' or '.join(endings)}"
        )


def _refuse_lost(pair: str, matches: Matches, student: LabelSet) -> None:
    """Refuse matches in which a class maps to nothing; the error names the classes of both tasks."""
    sentences = []
    for task, found in matches.items():
        lost = [name for name, match in found.items() if not match.target]
        if lost:
            names = {info.name for info in student.by_task[task]}
            sentences.append(
                f"{task}: {', '.join(lost)} map{'s' * (len(lost) == 1)} to nothing; add to the table what each "
                f"becomes, one of {_list(names)}, or {' or '.join(ENDINGS[task])}"
            )
    if sentences:
        raise RecipeError(f"{pair}, {'; '.join(sentences)}. `python -m training labels` shows what maps to what")


def _pair(source: LabelSet, student: LabelSet, where: str) -> str:
    return f"{f'{where}: ' if where else ''}label set {source.name} to {student.name}"


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "no classes"
