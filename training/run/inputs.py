"""Digests of the files that a run learns from; a recipe names these files, but their contents may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
