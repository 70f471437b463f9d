"""What a run learns from besides the text of its recipe: files that may be others by the time it is looked at again."""

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
    """Digests of the files that a run's recipe names, under the names that its checkpoints note them by.

    Attributes:
        data_sha256: fingerprints of the training sources, joined by `+`.
        teacher_sha256: of the weights that teach; empty = labels alone.
        initial_weights_sha256: of the weights that the run starts from; empty = from scratch.
    """

    data_sha256: str
    teacher_sha256: str = ""
    initial_weights_sha256: str = ""

    def differences(self, notes: Mapping[str, Any]) -> list[str]:
        """In words, what a checkpoint of the same recipe notes otherwise.

        What it does not note, as one of an earlier version, is taken to be the same.
        """
        return [words for name, words in _IN_WORDS.items() if notes.get(name) and notes[name] != getattr(self, name)]
