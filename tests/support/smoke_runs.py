"""Short runs of training: the smoke recipe on a few frames, a run that stops like at a power cut, and its log."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
from checkout import ROOT

from training.recipe import Recipe, load_recipe

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"


def smoke(samples: Path, output: Path, *overrides: str) -> Recipe:
    folders = [f"data.train.0.folder={samples}", f"output={output}"]
    folders += [f"validation.{task}.folder={samples}" for task in ("segmentation", "detection")]
    return load_recipe(RECIPE, [*folders, *overrides])


class StopAfter(lightning.Callback):
    """Ends a run in the middle of an epoch, like a power cut; nothing more is saved."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch = epoch, batch

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            raise RuntimeError("stopped by the test")


def logged(folder: Path, column: str, beside: str = "") -> list[float]:
    """Return the values of a column in the rows that also have the column `beside`."""
    values = []
    for path in sorted((folder / "csv").glob("version_*/metrics.csv")):
        with path.open() as file:
            values += [
                float(row[column]) for row in csv.DictReader(file) if row.get(column) and row.get(beside or column)
            ]
    return values
