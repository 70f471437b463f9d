"""Draws how far both sides agree over time, as SVG in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from ros_kd_perception.differences.figures import FrameRow

WIDTH, LEFT, RIGHT = 1100, 56, 12
PANEL_TOP, PANEL_HEIGHT, BARS_TOP, BARS_HEIGHT, HEIGHT = 12, 92, 122, 48, 196
MAX_COLUMNS = 260
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Column:
    """The frames of one camera that share a column of the plot.

    Attributes:
        place: Number of the column.
        worst, mean: Smallest and mean agreement of the class maps, 0..1. None without class maps.
        lost, gained: Largest number of lost and of new boxes in a frame.
    """

    place: int
    worst: float | None
    mean: float | None
    lost: int
    gained: int


@dataclass(frozen=True)
class Scale:
    """The scales that the plots of all cameras share.

    Attributes:
        length_ns: Length of the comparison, nanoseconds, at least 1.
        columns: Number of columns.
        lowest: Agreement at the bottom of the panel, 0..1.
        most_boxes: Number of boxes of the highest bar, at least 1.
    """

    length_ns: int
    columns: int
    lowest: float
    most_boxes: int

    @classmethod
    def of(cls, rows: Sequence[FrameRow]) -> Scale:
        """Fit scales to the frames of all cameras."""
        length_ns = max((row.position_ns for row in rows), default=0) + 1
        frames_of_a_camera = len({row.position_ns for row in rows})
        changed = max((row.changed_share or 0.0 for row in rows), default=0.0)
        lowest = next((1 - span for span in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if changed < 0.95 * span), 0.0)
        boxes = max((max(row.lost_boxes, row.gained_boxes) for row in rows), default=0)
        return cls(length_ns, max(1, min(MAX_COLUMNS, frames_of_a_camera)), lowest, max(1, boxes))

    def column(self, position_ns: int) -> int:
        """Return the column of a time."""
        return position_ns * self.columns // self.length_ns

    def x(self, column: float) -> float:
        """Return the horizontal place of the middle of a column."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (column + 0.5) / self.columns

    def y(self, agreement: float) -> float:
        """Return the vertical place of an agreement."""
        share = (agreement - self.lowest) / (1 - self.lowest)
        return PANEL_TOP + PANEL_HEIGHT * (1 - max(0.0, min(1.0, share)))


def columns_of(rows: Sequence[FrameRow], scale: Scale) -> list[Column]:
    """Gather the frames of one camera, in the order of their times, into columns."""
    columns = []
    for place, found in groupby(rows, lambda row: scale.column(row.position_ns)):
        frames = list(found)
        agreements = [1 - row.changed_share for row in frames if row.changed_share is not None]
        columns.append(
            Column(
                place,
                min(agreements, default=None),
                sum(agreements) / len(agreements) if agreements else None,
                max(row.lost_boxes for row in frames),
                max(row.gained_boxes for row in frames),
            )
        )
    return columns


def timeline_svg(camera: str, rows: Sequence[FrameRow], scale: Scale, marks: Sequence[tuple[int, FrameRow]]) -> str:
    """Return the plot of one camera: agreement of the class maps above, lost and new boxes below.

    Args:
        camera: Name of the camera.
        rows: Its frames, in the order of their times.
        scale: Scales of all cameras.
        marks: Numbers and figures of the worst moments of the camera.
    """
    columns = columns_of(rows, scale)
    parts = [_grid(scale), _curve(columns, scale), _bars(columns, scale)]
    parts += [_mark(number, row, scale) for number, row in marks]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="agreement over time, {escape(camera)}">'
        f"{''.join(parts)}</svg>"
    )


def _grid(scale: Scale) -> str:
    parts = []
    for share in (1.0, (1 + scale.lowest) / 2, scale.lowest):
        y = scale.y(share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * share:g} %</text>')
    middle = BARS_TOP + BARS_HEIGHT / 2
    parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{middle}" y2="{middle}"/>')
    parts.append(f'<text x="{LEFT - 8}" y="{BARS_TOP + 10}" text-anchor="end">{scale.most_boxes} new</text>')
    parts.append(f'<text x="{LEFT - 8}" y="{BARS_TOP + BARS_HEIGHT}" text-anchor="end">{scale.most_boxes} lost</text>')
    for second in _ticks_s(scale.length_ns / 1e9):
        x = LEFT + (WIDTH - LEFT - RIGHT) * second * 1e9 / scale.length_ns
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{second:g} s</text>')
    return "".join(parts)


def _curve(columns: Sequence[Column], scale: Scale) -> str:
    """Return a band from the worst to the mean agreement of each column, and a line along the worst one."""
    known = [column for column in columns if column.worst is not None and column.mean is not None]
    if not known:
        return f'<text x="{LEFT + 8}" y="{PANEL_TOP + 20}">class maps are not compared</text>'
    low = [f"{scale.x(column.place):.1f},{scale.y(column.worst or 0):.1f}" for column in known]
    first, last = (scale.x(column.place) for column in (known[0], known[-1]))
    top = scale.y(1.0)
    area = f"{first:.1f},{top:.1f} {' '.join(low)} {last:.1f},{top:.1f}"
    dots = "".join(f'<circle class="dot" cx="{x}" cy="{y}" r="2.5"/>' for x, y in (p.split(",") for p in low))
    few = dots if len(known) <= 60 else ""
    return f'<polygon class="area" points="{area}"/><polyline class="curve" points="{" ".join(low)}"/>{few}'


def _bars(columns: Sequence[Column], scale: Scale) -> str:
    middle, half = BARS_TOP + BARS_HEIGHT / 2, BARS_HEIGHT / 2
    width = max(1.5, min(10.0, 0.7 * (WIDTH - LEFT - RIGHT) / scale.columns))
    parts = []
    for column in columns:
        x = scale.x(column.place) - width / 2
        for kind, count in (("gained", column.gained), ("lost", column.lost)):
            if count:
                height = half * count / scale.most_boxes
                y = middle - height if kind == "gained" else middle
                title = f"<title>{count} {'new' if kind == 'gained' else kind}</title>"
                size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
                parts.append(f'<rect class="{kind}" {size}>{title}</rect>')
    return "".join(parts)


def _mark(number: int, row: FrameRow, scale: Scale) -> str:
    x, y = scale.x(scale.column(row.position_ns)), scale.y(1 - (row.changed_share or 0.0))
    y = min(y, PANEL_TOP + PANEL_HEIGHT - 4)
    return (
        f'<a href="#moment-{number}"><circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="9"/>'
        f'<text class="marked" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{number}</text></a>'
    )


def _ticks_s(length_s: float) -> list[float]:
    """Return round times, at most ten of them."""
    power = -3
    while True:
        for step in _STEPS:
            size = step * 10.0**power
            if length_s / size <= 10:
                return [round(size * tick, 6) for tick in range(int(length_s / size) + 1)]
        power += 1
