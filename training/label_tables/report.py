"""What maps to what between two label sets, for a table and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from training.label_sets.label_set import LabelSet, NameTable
from training.label_sets.mapping import Match, Matches, match_classes
from training.label_sets.suggestions import Suggestion, suggestions_for


@dataclass(frozen=True)
class MappingReport:
    """The classes of one set with what they become in the student's.

    Attributes:
        title: What has the classes, for example `data.train.0 (out/frames)`; may be empty.
        source: Their set.
        student: Set of the student.
        matches: What each class becomes.
    """

    title: str
    source: LabelSet
    student: LabelSet
    matches: Matches

    @classmethod
    def of(cls, title: str, source: LabelSet, student: LabelSet, table: NameTable) -> MappingReport:
        """Match the classes of two sets.

        Raises:
            RecipeError: A table names a class that does not exist.
        """
        return cls(title, source, student, match_classes(source, student, table, title))

    @cached_property
    def suggestions(self) -> dict[str, dict[str, Suggestion]]:
        """What each class that maps to nothing may become, by task and name."""
        return suggestions_for(self.matches, self.student)

    @property
    def lost(self) -> int:
        """Number of classes that map to nothing."""
        return sum(map(len, self.suggestions.values()))

    def unlabeled(self, task: str) -> list[str]:
        """Return the classes of the student that the source does not label, in the order of their ids."""
        found = {match.target for match in self.matches[task].values()}
        return [info.name for info in classes_of(self.student, task) if info.name not in found]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "title": self.title,
            "source": self.source.name,
            "student": self.student.name,
            "classes": {
                task: [
                    {
                        "id": info.id,
                        "name": info.name,
                        "becomes": self.matches[task][info.name].target or None,
                        "becomes_id": _id_in(self.student, task, self.matches[task][info.name]),
                        "via": self.matches[task][info.name].via,
                    }
                    for info in classes_of(self.source, task)
                ]
                for task in self.matches
            },
            "void_ids": list(self.source.void_ids),
            "left": {
                task: {name: {"suggested": one.target, "reason": one.reason} for name, one in by_name.items()}
                for task, by_name in self.suggestions.items()
            },
            "student_classes_without_labels": {task: self.unlabeled(task) for task in self.matches},
        }


def set_to_json(label_set: LabelSet) -> dict[str, Any]:
    """Return a label set as plain values for JSON, with the colours that pictures show."""
    content = label_set.model_dump(mode="json")
    for task in label_set.by_task:
        colors = {info.name: list(info.color_rgb) for info in classes_of(label_set, task)}
        content[task] = [info | {"color": colors[info["name"]]} for info in content[task]]
    return content


def classes_of(label_set: LabelSet, task: str) -> tuple[Any, ...]:
    """Return the classes of a task in the order of their ids, with a colour each."""
    return label_set.segmentation_classes if task == "segmentation" else label_set.detection_classes


def _id_in(student: LabelSet, task: str, match: Match) -> int | None:
    return next((info.id for info in student.by_task[task] if info.name == match.target), None)
