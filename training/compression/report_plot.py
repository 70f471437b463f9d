"""Accuracy over latency: one dot for each file, with the intervals of both."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from training.compression.figures import Figures
from training.compression.wording import SHOWN
from training.evaluation.wording import NAME_OF

PANEL_INCHES = (9.0, 4.0)
MARKERS, COLORS = ("o", "s", "^", "D"), 8


@dataclass(frozen=True)
class Dot:
    """A file in the plot. Shares are in percent.

    Attributes:
        name: Text in the legend.
        latency_ms, latency_low_ms, latency_high_ms: Its latency and its spread.
        value, low, high: Its figure and the interval or spread.
    """

    name: str
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    value: float
    low: float
    high: float


def panels(figures: Figures) -> dict[str, list[Dot]]:
    """Return the dots by the title of the panel: one for each set of frames and each mean that it yields."""
    found: dict[str, list[Dot]] = {}
    for frames in figures.frames:
        for mean in SHOWN:
            for row in figures.rows:
                figure = row.scores[frames].means.get(mean)
                if figure is None or figure.value is None:
                    continue
                low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
                shares = (100 * figure.value, 100 * low, 100 * high)
                latency = row.latency
                dot = Dot(row.name, latency.median_ms, latency.low_ms, latency.high_ms, *shares)
                found.setdefault(f"{NAME_OF[mean]} on {frames}", []).append(dot)
    return found


def drawing(title: str, dots: Sequence[Dot], front: Collection[str] = ()) -> Callable[[Axes], None]:
    """Return what draws a panel.

    Args:
        title: Label of the y axis.
        dots: The files.
        front: Names of the files that no other beats; they have a star and are joined by a line.
    """

    def draw(axes: Axes) -> None:
        handles = []
        for place, dot in enumerate(dots):
            across = ([dot.latency_ms - dot.latency_low_ms], [dot.latency_high_ms - dot.latency_ms])
            up = ([dot.value - dot.low], [dot.high - dot.value])
            marker, color = MARKERS[place // COLORS % len(MARKERS)], f"C{place % COLORS}"
            handles.append(
                axes.errorbar(dot.latency_ms, dot.value, up, across, marker, color=color, ms=7, lw=1.3, capsize=3)
            )
        best = sorted((dot for dot in dots if dot.name in front), key=lambda dot: dot.latency_ms)
        axes.plot([dot.latency_ms for dot in best], [dot.value for dot in best], "--", lw=1, color="C7", zorder=0)
        names = [f"{dot.name} *" if dot.name in front else dot.name for dot in dots]
        legend = axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_parse_math(False)  # names come from recipes
        axes.set_xlabel("latency of a frame, ms")
        axes.set_ylabel(f"{title}, %", parse_math=False)
        axes.set_xlim(left=0)
        axes.margins(x=0.1, y=0.15)

    return draw


def picture(plots: Sequence[Callable[[Axes], None]]) -> bytes:
    """Return the panels one below the other, as a PNG."""
    width, height = PANEL_INCHES
    rows = max(1, len(plots))
    canvas, axes = pyplot.subplots(rows, 1, figsize=(width, height * rows), squeeze=False, layout="constrained")
    for panel, draw in zip(axes[:, 0], plots, strict=False):
        draw(panel)
        panel.grid(alpha=0.3)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110)
    pyplot.close(canvas)
    return buffer.getvalue()
