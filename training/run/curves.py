"""Draw the curves of a run from its logs: curves.png in its folder, after each epoch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import lightning
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.errors import DataError
from training.run.environment import read_starts
from training.whole_files import write_bytes

FILE = "curves.png"
SMOOTHED_STEPS = 25  # logged steps of a running mean; single batches differ too much to show a trend
_PANELS = ("loss", "its terms", "learning rate", "validation")
Points = list[tuple[float, float]]


class Curves(lightning.Callback):
    """Draws the curves after each epoch and at the end."""

    def __init__(self, folder: Path) -> None:
        """Set the folder of the run."""
        self._folder = folder

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw what is logged so far."""
        self._draw(trainer)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw all curves."""
        self._draw(trainer)

    def _draw(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            if curves := read_curves(self._folder):
                write_bytes(self._folder / FILE, picture_of(curves))


def read_curves(folder: Path) -> dict[str, Points]:
    """Return the points (step, value) of each figure that a run logged, in the order of the steps.

    A run that was resumed has a log for each start; where steps come twice, the later log counts. Logs of a run that
    was there before, and that this one has overwritten, do not.
    """
    by_step: dict[str, dict[float, float]] = {}
    first = _first_log_version(folder)
    logs = {int(path.parent.name.partition("_")[2]): path for path in folder.glob("csv/version_*/metrics.csv")}
    for path in (logs[version] for version in sorted(logs) if version >= first):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                step = _number(row.pop("step", None))
                row.pop("epoch", None)
                for name, text in row.items():
                    value = _number(text)
                    if step is not None and value is not None:
                        by_step.setdefault(name, {})[step] = value
    return {name: sorted(points.items()) for name, points in by_step.items()}


def _first_log_version(folder: Path) -> int:
    """Return the number of the first log of a run; 0 if it is not noted, as by early versions."""
    with suppress(DataError):
        starts = read_starts(folder)
        if starts and isinstance(found := starts[0].get("log_version"), int):
            return found
    return 0


def picture_of(curves: Mapping[str, Points]) -> bytes:
    """Return the curves as a PNG with a panel for each kind."""
    parts = {panel: {name: points for name, points in curves.items() if _panel(name) == panel} for panel in _PANELS}
    there = {panel: part for panel, part in parts.items() if part}
    canvas = Figure(figsize=(10, 3.2 * max(1, len(there))), layout="constrained")
    for number, (panel, part) in enumerate(there.items(), 1):
        _draw_panel(canvas.add_subplot(len(there), 1, number), panel, part)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw_panel(axes: Axes, panel: str, part: Mapping[str, Points]) -> None:
    for name, points in sorted(part.items()):
        steps, values = np.array(points).T
        if panel in ("loss", "its terms"):
            values = _smoothed(values)
        axes.plot(steps, values, "o-" if panel == "validation" else "-", ms=4, lw=1.4, label=name)
    if panel in ("loss", "its terms") and min(min(value for _, value in points) for points in part.values()) > 0:
        axes.set_yscale("log")
    axes.set_ylabel(panel)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names come from label sets


def _panel(name: str) -> str:
    if name == "loss":
        return "loss"
    if name.startswith("loss/"):
        return "its terms"
    return "learning rate" if name.startswith("lr-") else "validation"


def _smoothed(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the mean of the last logged steps at each step."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
    last = np.arange(1, len(sums))
    first = np.maximum(0, last - SMOOTHED_STEPS)
    return np.asarray((sums[last] - sums[first]) / (last - first))


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
