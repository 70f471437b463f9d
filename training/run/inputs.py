"""Digests of the files that a run learns from; a recipe names these files, but their contents may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.label_sets.label_set import LabelSet

_IN_WORDS = {
    "data_sha256": "other training data",
    "teacher_sha256": "another teacher",
    "initial_weights_sha256": "other initial weights",
}


@dataclass(frozen=True)
class RunInputs:
    """Digests of the files that a recipe names, under their names in the notes of checkpoints.

    Attributes:
        data_sha256: Fingerprints of the training sources, joined by `+`.
        teacher_sha256: SHA-256 of the teacher's weights; empty without a teacher.
        initial_weights_sha256: SHA-256 of the weights that the run starts from; empty for random weights.
    """

    data_sha256: str
    teacher_sha256: str = ""
    initial_weights_sha256: str = ""

    def differences(self, notes: Mapping[str, Any]) -> list[str]:
        """Return in words which inputs differ from those in the notes of a checkpoint.

        An input that the notes lack, because an earlier version wrote them, counts as equal.
        """
        return [words for name, words in _IN_WORDS.items() if notes.get(name) and notes[name] != getattr(self, name)]


def has_other_classes(notes: Mapping[str, Any], label_set: LabelSet) -> bool:
    """Return whether the classes in the notes of a checkpoint have other names or numbers than those of a label set.

    A recipe names a file, whose content may have changed since. Notes of early versions, without a label set, count as
    equal.
    """
    noted = notes.get("label_set")
    if not isinstance(noted, Mapping):
        return False
    return any(
        {(info.id, info.name) for info in classes} != {(entry.get("id"), entry.get("name")) for entry in noted[task]}
        for task, classes in label_set.by_task.items()
        if task in noted
    )
