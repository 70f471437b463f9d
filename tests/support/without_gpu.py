"""An environment without a GPU on any machine, for processes that tests start with `--device cuda`."""

from __future__ import annotations

import os

FALLBACK = "CUDAExecutionProvider was asked for, CPUExecutionProvider runs: "


def environment_without_gpu() -> dict[str, str]:
    """Return this process's environment, in which CUDA finds no GPU."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
