"""Measures whether a quantised file is faster on this CPU than the same network in floats.

On a CPU without instructions for INT8 it is slower: exact sums of bytes take more work there than floats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ros_kd_perception.model.execution_provider import INPUT_NAME
from ros_kd_perception.model.onnx_file import read_model_file
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.model.session_start import start_float_twin

LEAST_RUNS = 3
MOST_RUNS = 7
BUDGET_S = 0.6


def time_share_of_fp32(model: OnnxModel, path: str | Path) -> float | None:
    """Return the time of a quantised network on a CPU, divided by the time of the same file computed in floats.

    Both run in turns, and the fastest run of each counts, because other work on the machine only makes a run slower.
    Run it in a process whose memory is limited: the file in floats is not opened within the limited arena.

    Args:
        model: The open model, on one thread.
        path: Path of its file.

    Returns:
        The share. None if the model is not quantised, runs on a GPU, or cannot be opened in floats, or if its file has
        changed since it was opened.
    """
    if model.contract.precision != "int8" or model.provider.on_gpu:
        return None
    size = model.contract.input
    images = np.full((1, size.height, size.width, 3), size.pad_value, np.uint8)
    try:
        file = read_model_file(Path(path))
        if file.sha256 != model.sha256:
            return None
        twin = start_float_twin(file.content)
        return _time_share(lambda: model.run(images), lambda: twin.run(None, {INPUT_NAME: images}))
    except Exception:  # ONNX Runtime has a class for each status; a comparison that fails refuses no model
        return None


def _time_share(run: Callable[[], object], other: Callable[[], object]) -> float:
    """Return the fastest time of `run` divided by that of `other`."""
    fastest_s = [float("inf"), float("inf")]
    started_s = time.perf_counter()
    for count in range(MOST_RUNS):
        if count >= LEAST_RUNS and time.perf_counter() - started_s > BUDGET_S:
            break
        for index, call in enumerate((run, other)):
            before_s = time.perf_counter()
            call()
            fastest_s[index] = min(fastest_s[index], time.perf_counter() - before_s)
    return fastest_s[0] / fastest_s[1]
