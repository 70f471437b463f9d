"""Curves over severities: a panel for each condition, a line for each network and mean, with intervals."""

from __future__ import annotations

import io

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from training.conditions.figures import Curve, Robustness
from training.evaluation.wording import NAME_OF

COLUMNS = 4
PANEL_INCHES = (3.6, 2.6)
_STYLES = {0: "-", 1: "--"}


def curves_png(robustness: Robustness) -> bytes:
    """Return the curves as PNG."""
    conditions = robustness.networks[0].conditions
    rows = -(-len(conditions) // COLUMNS)
    size = (PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * rows + 0.6)
    canvas, axes = pyplot.subplots(rows, COLUMNS, figsize=size, squeeze=False, layout="constrained", sharey=True)
    lines: dict[str, Line2D] = {}
    for place, panel in enumerate(axes.ravel()):
        if place >= len(conditions):
            panel.set_axis_off()
            continue
        lines |= _panel(panel, robustness, place)
    legend = canvas.legend(list(lines.values()), list(lines), loc="outside upper left", ncols=4, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names of files may hold signs of formulas
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=100)
    pyplot.close(canvas)
    return buffer.getvalue()


def _panel(panel: Axes, robustness: Robustness, place: int) -> dict[str, Line2D]:
    """Draw a condition; return the lines by their texts in the legend."""
    lines: dict[str, Line2D] = {}
    for number, network in enumerate(robustness.networks):
        condition = network.conditions[place]
        for style, (mean, curve) in enumerate(condition.curves.items()):
            text = f"{NAME_OF[mean]} of {network.name}"
            lines[text] = _line(panel, (0, *condition.severities), curve, f"C{number % 10}", _STYLES[style % 2])
    condition = robustness.networks[0].conditions[place]
    panel.set_title(condition.name, fontsize=10)
    panel.set_xticks((0, *condition.severities), ["clean", *map(str, condition.severities)])
    panel.set_ylim(0, 100)
    panel.grid(alpha=0.3)
    if place % COLUMNS == 0:
        panel.set_ylabel("%")
    return lines


def _line(panel: Axes, at: tuple[int, ...], curve: Curve, color: str, style: str) -> Line2D:
    known = [(x, figure) for x, figure in zip(at, curve.scores, strict=True) if figure.value is not None]
    x = [each for each, _ in known]
    values = [100 * (figure.value or 0.0) for _, figure in known]
    sure = [figure for _, figure in known if figure.low is not None and figure.high is not None]
    if len(sure) == len(known):
        low, high = (
            [100 * (end or 0.0) for end in ends] for ends in zip(*((f.low, f.high) for f in sure), strict=True)
        )
        panel.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
    return panel.plot(x, values, style, color=color, marker=".", linewidth=1.4)[0]
