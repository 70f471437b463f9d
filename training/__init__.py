"""Offline training of students: recipes, data, networks, losses and commands. Never installed on a vehicle.

The public names below are imported when they are first used, so that a recipe is checked without loading torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Must be set before torch loads OpenMP. By default its threads spin while they wait for each other. With data loading
# on the same cores this made a training step five times slower (student s, 2 cores). Sleeping threads have no
# measurable cost when the cores are free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from training.errors import CheckpointError, DataError, RecipeError
    from training.recipe import Recipe, load_recipe
    from training.run.train import train

__all__ = ["CheckpointError", "DataError", "Recipe", "RecipeError", "load_recipe", "train"]

_MODULE_OF = {
    "CheckpointError": "errors",
    "DataError": "errors",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "load_recipe": "recipe",
    "train": "run.train",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
