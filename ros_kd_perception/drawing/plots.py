"""Draw plots of a drive or a benchmark with Matplotlib, as SVG.

An HTML page is read on light and on dark screens, so its colours are variables of its style sheet. Matplotlib does not
know CSS variables. While it draws for a page, a placeholder colour stands for each of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ros_kd_perception.system.missing_package import MissingPackage

try:
    from matplotlib import rc_context, rcParams
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingPackage(
        "expected Matplotlib, which draws the plots, found none; install ros_kd_perception's extra [report]"
    ) from error

Draw = Callable[[Axes], None]
"""Draws one plot on the axes that it is given."""

_WIDTH_PX, _HEIGHT_PX = 880, 260
_PX_IN_AN_INCH = 72
_SVG, _LINKS = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_SHOWN = "shown: "
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11.5,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.01,
    "axes.ymargin": 0.08,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.size": 0,
    "ytick.major.pad": 8,
    "lines.linewidth": 2,
}
_VARIABLES = ("soft", "line", *(f"series-{number}" for number in range(8)))
_NUMBERS = {name: f"#fe00{index:02x}" for index, name in enumerate(_VARIABLES)}
_PAGE_STYLE: dict[Any, Any] = {
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.prop_cycle": f"cycler('color', {[_NUMBERS[f'series-{number}'] for number in range(8)]})",
    "grid.color": _NUMBERS["line"],
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _NUMBERS["soft"]
    ),
}


@dataclass(frozen=True)
class Series:
    """Points with a name and a colour. The colours `C0` to `C7` are those of the page."""

    name: str
    color: str
    points: Sequence[tuple[float, float]]


def page_svg(draw: Draw, description: str, height_px: int = _HEIGHT_PX) -> str:
    """Draw a plot as an SVG element of an HTML page.

    Args:
        draw: Draws the plot.
        description: Text for screen readers; different for each plot of a page.
        height_px: Height of the drawing, whose width is 880 px.

    Returns:
        The `svg` element.
    """
    # A drawing refers to its own parts by id. The salt keeps the ids of several drawings in one page apart.
    with rc_context({**_STYLE, **_PAGE_STYLE, "svg.hashsalt": description}):
        svg = _written([draw], height_px)
    root = ElementTree.fromstring(svg)
    del root.attrib["width"], root.attrib["height"]
    root.attrib.update({"role": "img", "aria-label": description})
    for group in root.iter(f"{{{_SVG}}}g"):
        _, is_shown, text = group.attrib.pop("id", "").partition(_SHOWN)
        if is_shown:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = text
            group.insert(0, title)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINKS)
    element = ElementTree.tostring(root, encoding="unicode")
    for name, number in _NUMBERS.items():
        element = element.replace(number, f"var(--{name})")
    return element


def document_svg(plots: Mapping[str, Draw]) -> str:
    """Draw plots by title, one below the other, as an SVG file with fixed colours."""
    with rc_context(_STYLE):
        return _written(list(plots.values()), _HEIGHT_PX, list(plots))


def shown_text(text: str) -> str:
    """Return the `gid` for an artist that shows `text` in a page while the pointer rests on it."""
    return _SHOWN + text


def scatter(
    axes: Axes, series: Sequence[Series], x_label: str, y_label: str, events: Mapping[str, Sequence[float]]
) -> None:
    """Draw dots, and a stroke at the bottom for each event, for example a dropped frame.

    Args:
        axes: Axes to draw on.
        series: The dots.
        x_label: Label of the x axis, with its unit.
        y_label: Label of the y axis, with its unit. The axis starts at 0.
        events: x positions of the events, by name of the event.
    """
    for line in series:
        axes.plot(*_columns(line), "o", color=line.color, label=line.name, alpha=0.75, ms=5, markeredgewidth=0)
    for name, places in events.items():
        (strokes,) = axes.plot(places, [0.04] * len(places), "|", color="C4", label=name, ms=12, markeredgewidth=2)
        strokes.set(transform=axes.get_xaxis_transform(), gid=shown_text(name))
    _label(axes, x_label, y_label)


def lines(axes: Axes, series: Sequence[Series], x_label: str, y_label: str) -> None:
    """Draw lines. Both axes start at 0."""
    for line in series:
        axes.plot(*_columns(line), color=line.color, label=line.name)
    axes.set_xlim(left=0)
    _label(axes, x_label, y_label)


def histogram(axes: Axes, values: Sequence[float], marks: Mapping[str, float], x_label: str, bins: int = 40) -> None:
    """Draw a histogram with named vertical marks.

    Args:
        axes: Axes to draw on.
        values: Values to count.
        marks: x position of each mark by name, for example percentiles.
        x_label: Label of the values, with their unit.
        bins: Number of bars between 0 and the largest value.
    """
    axes.hist(values, bins=bins, range=(0.0, max(values)), color="C0", rwidth=0.94)
    for index, (name, value) in enumerate(marks.items(), 1):
        axes.axvline(value, color=rcParams["axes.edgecolor"], linestyle="--", linewidth=1.2)
        axes.annotate(
            f"{name} {value:.1f}", (value, 1.0), (4, -13 * index), axes.get_xaxis_transform(), "offset points"
        )
    axes.set_xlim(left=0)
    axes.set_ylim(top=1.3 * axes.dataLim.ymax)  # room for the names of the marks
    _label(axes, x_label, "frames")


def bars(axes: Axes, values: Mapping[str, float]) -> None:
    """Draw one horizontal bar for each name, from top to bottom, with its value beside it."""
    axes.bar_label(axes.barh(list(values), list(values.values()), color="C0", height=0.7), fmt="%g", padding=8)
    axes.set_xlim(0, 1.1 * max(values.values()))
    _leave_names_alone(axes)


def shares(axes: Axes, rows: Mapping[str, Mapping[str, float]], colors: Mapping[str, str]) -> None:
    """Draw one horizontal bar for each row, divided by shares that sum to 1.

    Args:
        axes: Axes to draw on.
        rows: Shares by name of the part, for each row from top to bottom.
        colors: Colour of each part.
    """
    for row, row_shares in rows.items():
        left = 0.0
        for part, share in row_shares.items():
            (bar,) = axes.barh(row, share, left=left, color=colors[part], height=0.7)
            bar.set_gid(shown_text(f"{part} {100 * share:.0f} %"))
            left += share
    axes.set_xlim(0, 1)
    _leave_names_alone(axes)


def _columns(series: Series) -> tuple[list[float], list[float]]:
    return [x for x, _ in series.points], [y for _, y in series.points]


def _label(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_ylim(bottom=0)


def _leave_names_alone(axes: Axes) -> None:
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _written(plots: Sequence[Draw], height_px: int, titles: Sequence[str] = ()) -> str:
    size = (_WIDTH_PX / _PX_IN_AN_INCH, len(plots) * height_px / _PX_IN_AN_INCH)
    figure = Figure(figsize=size, dpi=_PX_IN_AN_INCH, layout="constrained")
    all_axes = figure.subplots(len(plots), squeeze=False)[:, 0]
    for axes, draw in zip(all_axes, plots, strict=True):
        draw(axes)
    for axes, title in zip(all_axes, titles, strict=False):
        axes.set_title(title)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()
