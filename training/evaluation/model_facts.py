"""What an evaluation tells of a model besides its scores: size, memory and time, for JSON and for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.memory import Memory
from training.evaluation.models import EvaluatedModel
from training.evaluation.wording import MISSING


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model that has perceived frames.

    Attributes:
        name: Name of the model, unique among those of the evaluation.
        path: Its file.
        model: The model.
        times_ms: Time of its network for each frame; models of one evaluation have seen the same frames.
        memory: What it adds to a process; None if it was not measured.
    """

    name: str
    path: Path
    model: EvaluatedModel
    times_ms: Sequence[float]
    memory: Memory | None

    @property
    def median_ms(self) -> float:
        """Median of its times."""
        return float(np.median(self.times_ms))

    def time_ratio(self, first: ModelFacts) -> float:
        """Return the median of its time over that of the first model on the same frame."""
        times, others = (np.array(each.times_ms) for each in (self, first))
        return float(np.median(times / np.maximum(others, 1e-6)))

    def values(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        size, spec = self.model.size, self.model.contract.input
        return {
            "model": self.name,
            "runtime": self.model.runtime,
            "input": [spec.height, spec.width],
            "parameters": size and size.parameters,
            "multiply_accumulates": size and size.multiply_accumulates,
            "file_bytes": self.path.stat().st_size,
            "memory": self._memory_values(),
        }

    def words(self, first: ModelFacts) -> str:
        """Return a line for people."""
        words, size, spec = [f"{self.name} ({self.model.runtime})"], self.model.size, self.model.contract.input
        if size is not None:
            work = size.multiply_accumulates
            words += [
                f"input {spec.width}x{spec.height}",
                f"{size.parameters / 1e6:.2f} M parameters",
                f"{MISSING if work is None else f'{work / 1e9:.2f}'} GMAC",
                f"file {self.path.stat().st_size / 1e6:.1f} MB",
            ]
        words += self._memory_words()
        words.append(f"median {self.median_ms:.1f} ms a frame")
        if self.name != first.name:
            words.append(f"{self.time_ratio(first):.3f} of the first")
        return ", ".join(words)

    def _memory_values(self) -> dict[str, int | None] | None:
        if self.memory is None or self.memory.problem:
            return None
        return {key: value for key, value in asdict(self.memory).items() if key != "problem"}

    def _memory_words(self) -> Iterator[str]:
        if self.memory is not None and self.memory.added_bytes is not None:
            yield f"memory {self.memory.added_bytes / 1e6:.0f} MB"
        if self.memory is not None and self.memory.device_bytes is not None:
            yield f"memory of the GPU {self.memory.device_bytes / 1e6:.0f} MB"
