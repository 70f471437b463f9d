"""What a step of a chain takes and returns: a network, as weights that train and as a file that runs."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    kind: str
    weights: Path | None
    file: Path
    said: tuple[str, ...] = ()
    data_sha256: str = ""
