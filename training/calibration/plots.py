"""Reliability before and after a calibration: a row for each set of frames, masks beside boxes."""

from __future__ import annotations

import io

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from training.calibration.measure import Calibration, MeasuredSet
from training.evaluation.confidence import SCORE_BINS, Reliability, confidence_of

PANEL_INCHES = (4.2, 3.4)


def reliability_png(found: Calibration) -> bytes:
    """Return the plot as PNG."""
    sets = [*(("fit", each) for each in found.fit), *(("check", each) for each in found.check)]
    size = (PANEL_INCHES[0] * 2, PANEL_INCHES[1] * len(sets))
    canvas, axes = pyplot.subplots(len(sets), 2, figsize=size, squeeze=False, layout="constrained")
    temperature = 1 / found.temperature.scale.scale if found.temperature else 1.0
    for (use, each), (left, right) in zip(sets, axes, strict=True):
        title = f"{each.name} ({use})"
        if each.pixels is None:
            left.set_axis_off()
        else:
            before, after = (each.pixels.reliability(at) for at in (1.0, temperature))
            _panel(left, before, after, f"pixels, {title}", "probability of the likeliest class")
        _boxes(right, each, title)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110)
    pyplot.close(canvas)
    return buffer.getvalue()


def _boxes(axes: Axes, each: MeasuredSet, title: str) -> None:
    before, after = confidence_of(each.before).boxes, confidence_of(each.after).boxes
    if before is None or after is None or not sum(before.boxes):
        axes.set_axis_off()
        return
    _panel(axes, before, after, f"boxes, {title}", "score")


def _panel(axes: Axes, before: Reliability, after: Reliability, title: str, x_label: str) -> None:
    axes.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    for found, name, color in ((before, "before", "C1"), (after, "after", "C0")):
        known = [n for n in range(SCORE_BINS) if found.right[n] is not None]
        x = np.array([found.mean_score[n] for n in known], float)
        y = np.array([found.right[n] for n in known], float)
        error = f"{100 * (found.error or 0):.1f} points"
        axes.plot(x, y, color=color, linewidth=1.3, label=f"{name}: off by {error}")
        # The area of a mark is the share of its pixels or boxes.
        shares = np.array([found.boxes[n] for n in known]) / max(1, sum(found.boxes))
        axes.scatter(x, y, s=12 + 250 * shares, color=color, alpha=0.8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel("share that is right", fontsize=8)
    axes.legend(fontsize=8, loc="upper left", frameon=False)
    axes.grid(alpha=0.3)
