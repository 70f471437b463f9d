"""Modules for the formulas of losses, each imported when a formula uses it for the first time.

The class of a loss is also its section of a recipe. A recipe is read in a fraction of a second; torch takes seconds to
load. Files with losses therefore import torch and the modules that build on it from here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = [
    "across_processes",
    "assigner",
    "boxes",
    "detection",
    "functional",
    "heads",
    "loss_math",
    "neighbour_view",
    "torch",
]


class LazyModule:
    """Stands for a module and imports it when an attribute is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:  # For mypy and editors these are the modules themselves.
    import torch
    from torch.nn import functional

    from training.distillation import loss_math, neighbour_view
    from training.losses import across_processes, assigner, boxes, detection
    from training.networks import heads
else:
    torch = LazyModule("torch")
    functional = LazyModule("torch.nn.functional")
    loss_math = LazyModule("training.distillation.loss_math")
    neighbour_view = LazyModule("training.distillation.neighbour_view")
    across_processes = LazyModule("training.losses.across_processes")
    assigner = LazyModule("training.losses.assigner")
    boxes = LazyModule("training.losses.boxes")
    detection = LazyModule("training.losses.detection")
    heads = LazyModule("training.networks.heads")
