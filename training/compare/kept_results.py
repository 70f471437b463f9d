"""Keeps results of a comparison in files, so that no frame is scored twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.compare.recipe import ComparisonRecipe
from training.evaluation.frame_recorder import KEPT_VERSION
from training.whole_files import write_text


class KeptResults:
    """The results of a comparison so far: a JSON file for each checkpoint and each set of frames.

    Attributes:
        folder: Folder of the comparison.
    """

    def __init__(self, comparison: ComparisonRecipe) -> None:
        self.folder = comparison.output / comparison.name
        self._size = f"{comparison.input_height}x{comparison.input_width}"

    def of_checkpoint(self, checkpoint: Path, frames: str, compute: Callable[[], Any]) -> Any:
        """Return the kept result, or compute and keep it.

        Args:
            checkpoint: File of the network.
            frames: Digest of everything else that the result depends on, beside the size of the input.
            compute: Returns the result, plain values for JSON.
        """
        key = hashlib.sha256(checkpoint.read_bytes())
        key.update(f"{KEPT_VERSION} {frames} {self._size}".encode())
        path = self.folder / "scores" / f"{key.hexdigest()[:24]}.json"
        if not path.is_file():
            write_text(path, json.dumps(compute(), allow_nan=False) + "\n")
        # Earlier versions wrote NaN for a figure that the labels do not yield.
        return json.loads(path.read_text(), parse_constant=lambda name: None)
