"""Small SVG plots for an HTML page, without a plotting library.

Colours of text, grid and background come from the page's style sheet (classes `tick`, `grid`, `axis`, `mark`), so that
one drawing reads well on light and on dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 880
HEIGHT = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 40

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points of one colour: `color` is any CSS colour."""

    name: str
    color: str
    points: Sequence[Point]


@dataclass(frozen=True)
class _Scale:
    """Maps values to pixels: `low` falls on `start`, `high` on `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that cover a range, in steps of 1, 2 or 5 times a power of ten.

    Args:
        low: smallest value to be covered.
        high: largest value to be covered.
        count: about how many steps.
    """
    span = max(high - low, 1e-6 * max(1.0, abs(high)))
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= count)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def scatter(series: Sequence[Series], x_label: str, y_label: str, events: Mapping[str, Sequence[float]]) -> str:
    """Dots, and at the bottom a stroke for each event, such as a drop, by name and x.

    Args:
        series: the dots.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit; the axis starts at 0.
        events: x of each event.
    """
    xs = [x for line in series for x, _ in line.points] + [x for places in events.values() for x in places]
    ys = [y for line in series for _, y in line.points]
    x_scale, y_scale, parts = _axes(xs, ys, x_label, y_label)
    for line in series:
        dots = "".join(f'<circle cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="2.6"/>' for x, y in line.points)
        parts.append(f'<g fill="{line.color}" fill-opacity="0.75">{dots}</g>')
    bottom = HEIGHT - _BOTTOM
    for name, places in events.items():
        strokes = "".join(f"M{x_scale(x):.1f} {bottom}v-12" for x in places)
        parts.append(f'<path class="event" d="{strokes}"><title>{escape(name)}</title></path>')
    return _drawing(parts, f"{y_label} against {x_label}")


def lines(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """Lines, both axes from 0."""
    xs = [0.0, *(x for line in series for x, _ in line.points)]
    ys = [y for line in series for _, y in line.points]
    x_scale, y_scale, parts = _axes(xs, ys, x_label, y_label)
    for line in series:
        path = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2"/>')
    return _drawing(parts, f"{y_label} against {x_label}")


def histogram(values: Sequence[float], marks: Mapping[str, float], x_label: str, bins: int = 40) -> str:
    """How often which value occurs, with named vertical marks.

    Args:
        values: what to count.
        marks: name and x of each mark, such as percentiles.
        x_label: what the values are, with their unit.
        bins: number of bars over the range of the axis.
    """
    ticks = nice_ticks(0.0, max([*values, *marks.values()], default=1.0))
    width = ticks[-1] / bins
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int(value / width)))] += 1
    x_scale, y_scale, parts = _axes([0.0, ticks[-1]], [float(max(counts))], x_label, "frames")
    for index, count in enumerate(counts):
        left, right, top = x_scale(index * width), x_scale((index + 1) * width), y_scale(count)
        height = HEIGHT - _BOTTOM - top
        if count:
            parts.append(
                f'<rect class="bar" x="{left + 0.5:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" '
                f'height="{height:.1f}"/>'
            )
    parts += _marks(marks, x_scale)
    return _drawing(parts, f"histogram of {x_label}")


def bars(values: Mapping[str, float], unit: str = "") -> str:
    """Horizontal bars, one a name, the value and its unit written beside each."""
    row, top = 30, 6
    largest = max(values.values(), default=0.0) or 1.0
    parts = []
    for index, (name, value) in enumerate(values.items()):
        y = top + index * row
        length = value / largest * (WIDTH - 330)
        parts.append(
            f'<text class="tick" x="190" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar" x="200" y="{y}" width="{max(length, 1.0):.1f}" height="20" rx="3"/>'
            f'<text class="tick" x="{208 + length:.1f}" y="{y + 15}">{value:g}{escape(unit)}</text>'
        )
    return _drawing(parts, "bars", height=top + row * max(1, len(values)))


def shares(rows: Mapping[str, Mapping[str, float]], colors: Mapping[str, str]) -> str:
    """One horizontal bar a row, divided by shares that sum to 1.

    Args:
        rows: share by part name, for each row.
        colors: CSS colour of each part.
    """
    row, top, left = 42, 6, 120
    width = WIDTH - left - _RIGHT
    parts = []
    for index, (name, row_shares) in enumerate(rows.items()):
        y, x = top + index * row, float(left)
        parts.append(f'<text class="tick" x="{left - 10}" y="{y + 20}" text-anchor="end">{escape(name)}</text>')
        for part, share in row_shares.items():
            length = share * width
            label = f"{part} {100 * share:.0f} %"
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="30" fill="{colors.get(part, "#888")}">'
                f"<title>{escape(label)}</title></rect>"
            )
            x += length
    return _drawing(parts, "class shares", height=top + row * max(1, len(rows)))


def _axes(xs: Sequence[float], ys: Sequence[float], x_label: str, y_label: str) -> tuple[_Scale, _Scale, list[str]]:
    x_low, x_high = min(xs, default=0.0), max(xs, default=1.0)
    x_high = max(x_high, x_low + 1e-6)
    y_ticks = nice_ticks(0.0, max(ys, default=1.0) or 1.0)
    x_scale = _Scale(x_low, x_high, _LEFT, WIDTH - _RIGHT)
    y_scale = _Scale(0.0, y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    parts = []
    for tick in y_ticks:
        y = y_scale(tick)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    parts += [
        f'<text class="tick" x="{x_scale(tick):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in nice_ticks(x_low, x_high, 10)
        if x_low - 1e-9 <= tick <= x_high + 1e-9
    ]
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<path class="axis" d="M{_LEFT} {HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"/>'
        f'<text class="label" x="{(_LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text class="label" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return x_scale, y_scale, parts


def _marks(marks: Mapping[str, float], x_scale: _Scale) -> list[str]:
    parts = []
    for index, (name, value) in enumerate(marks.items()):
        x = x_scale(value)
        parts.append(
            f'<path class="mark" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>'
            f'<text class="tick" x="{x + 4:.1f}" y="{_TOP + 10 + 14 * index}">{escape(name)} {value:.1f}</text>'
        )
    return parts


def _drawing(parts: Sequence[str], description: str, height: int = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
