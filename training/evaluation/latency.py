"""Time files side by side: in one process, in turns, so that a busy or warm machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import UInt8Array

ROUNDS = 100
_WARM_UP_ROUNDS = 5
_SEED = 0


@dataclass(frozen=True)
class Latency:
    """How long the network of a file takes for one frame, without what comes before and after it.

    Attributes:
        median_ms: Median of the rounds.
        low_ms, high_ms: The middle half of the rounds lies between them.
        ratio: Median of its time over that of the first file in the same round.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float


def latencies(files: Mapping[str, Path], threads: int, rounds: int = ROUNDS, device: str = "cpu") -> dict[str, Latency]:
    """Time files in rounds; in each, every file runs once, in an order drawn anew.

    Args:
        files: Exported files by name. The first is the one that the others are compared with.
        threads: Threads of one run.
        rounds: Number of rounds after the warm-up.
        device: Where they run, as in `OnnxModel.open`.

    Raises:
        ModelError: A file cannot be opened.
    """
    models = [OnnxModel.open(path, device=device, intra_op_threads=threads) for path in files.values()]
    generator = np.random.default_rng(_SEED)
    images = [_noise(model, generator) for model in models]
    times_ms = np.zeros((rounds, len(models)))
    for number in tqdm(range(-_WARM_UP_ROUNDS, rounds), desc="latency", unit="round", disable=None):
        for place in generator.permutation(len(models)):
            started = time.perf_counter()
            models[place].run(images[place])
            times_ms[max(number, 0), place] = (time.perf_counter() - started) * 1e3
    low, median, high = np.quantile(times_ms, (0.25, 0.5, 0.75), axis=0)
    ratios = np.median(times_ms / times_ms[:, :1], axis=0)
    return {
        name: Latency(float(median[place]), float(low[place]), float(high[place]), float(ratios[place]))
        for place, name in enumerate(files)
    }


def _noise(model: OnnxModel, generator: np.random.Generator) -> UInt8Array:
    size = model.contract.input
    return generator.integers(0, 256, (1, size.height, size.width, 3), dtype=np.uint8)
