"""What a step of a chain takes and returns: a network, as weights that train and as a file that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """The parent of a chain, or what is there after one of its steps.

    Attributes:
        kind: `parent`, or the kind of the step.
        weights: Checkpoint (.ckpt) or weights alone (.safetensors) of the network. None if the parent is an exported
            file, and after a step that changes the file only.
        file: The network as an exported file.
        said: One sentence for each step so far.
        data_sha256: Fingerprint of the calibration frames; empty before a file is quantised.
        tables: Tables of the steps so far for terminal and report, text by title.
    """

    kind: str
    weights: Path | None
    file: Path
    said: tuple[str, ...] = ()
    data_sha256: str = ""
    tables: Mapping[str, str] = field(default_factory=dict)

    def with_said(self, sentence: str, tables: Mapping[str, str] | None = None) -> Stage:
        """Return the stage with one more sentence, and with more tables."""
        return replace(self, said=(*self.said, sentence), tables={**self.tables, **(tables or {})})
