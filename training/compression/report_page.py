"""The report of a chain as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from ros_kd_perception.drawing.plots import page_svg
from training.compression.figures import Figures
from training.compression.report_plot import Dot, drawing, panels
from training.compression.stage import Stage
from training.compression.wording import SHOWN, conditions, size_words, verdict
from training.evaluation.page import html_list, html_table, page_style
from training.evaluation.score_figures import BETTER, WORSE, Figure, ScoreFigures
from training.evaluation.wording import MISSING, NAME_OF, interval, percent, points

_TEMPLATE = Path(__file__).with_name("page.html")
_PLOT_PX = 280
_MOOD_OF = {BETTER: "good", WORSE: "bad"}
_BY_CLASS = {"iou": "IoU", "ap50": "AP50", "ap": "AP"}


def page_of(title: str, figures: Figures, stage: Stage, beyond: Sequence[str]) -> str:
    """Return the page: verdict, files, plots, each set of frames class by class, and the tables of the steps."""
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=page_style(),
        tiles=_tiles(figures),
        mood="bad" if beyond else "good",
        headline="Beyond the budget: no file was written" if beyond else "Within the budget",
        verdict=html_list(verdict(figures, beyond)),
        steps=html_list(stage.said, "ol"),
        files=html_table([["", *size_words(figures.rows[0]), "SHA-256"], *map(_escaped, _file_rows(figures))]),
        accuracy=_accuracy(figures),
        plots="".join(_plot(name, dots) for name, dots in panels(figures).items()),
        classes="".join(_classes(figures, frames) for frames in figures.frames),
        tables="".join(
            f'<h2>{escape(name)}</h2><div class="card scroll"><pre>{escape(text)}</pre></div>'
            for name, text in stage.tables.items()
        ),
        conditions=escape(conditions(figures)),
    )


def _plot(name: str, dots: Sequence[Dot]) -> str:
    svg = page_svg(drawing(name, dots), f"{name} over latency", _PLOT_PX)
    return f'<div class="card"><h3>{escape(name)}</h3>{svg}</div>'


def _tiles(figures: Figures) -> str:
    parent, result = figures.rows[0], figures.rows[-1]
    tiles = [
        (f"{result.latency.ratio:.2f}", "of the parent's time"),
        (f"{result.size_bytes / parent.size_bytes:.2f}", "of its bytes"),
        (f"{result.latency.median_ms:.1f} ms", f"a frame, {figures.threads} thread{'s' * (figures.threads > 1)}"),
    ]
    for frames, scores in result.scores.items():
        shown = [mean for mean in SHOWN if mean in scores.means]
        tiles += [(percent(scores.means[mean].value), f"{NAME_OF[mean]} on {frames}, %") for mean in shown]
    return "".join(f'<div class="card tile"><b>{value}</b><span>{escape(what)}</span></div>' for value, what in tiles)


def _file_rows(figures: Figures) -> Iterable[list[str]]:
    for row in figures.rows:
        yield [row.name, *size_words(row).values(), row.sha256[:12]]


def _accuracy(figures: Figures) -> str:
    """Return a table for each set of frames: the means, their intervals and their differences to the parent."""
    parts = []
    for frames, text in figures.frames.items():
        means = [mean for mean in NAME_OF if mean in figures.rows[0].scores[frames].means]
        heads = [head for mean in means for head in (f"{NAME_OF[mean]}, %", "difference, points")]
        rows = []
        for row in figures.rows:
            scores = row.scores[frames]
            cells = [cell for mean in means for cell in _mean_cells(scores.means.get(mean))]
            rows.append([escape(row.name), *cells, percent(scores.agreement)])
        table = html_table([["", *heads, "equal class map, %"], *rows])
        parts.append(f"<h3>{escape(frames)}</h3><p>{escape(text)}</p>{table}")
    return "".join(parts)


def _mean_cells(figure: Figure | None) -> tuple[str, str]:
    """Return a figure with its interval below it, and its difference with the verdict below it."""
    if figure is None or figure.value is None:
        return MISSING, MISSING
    value = f"{percent(figure.value)}<br><small>{interval(figure)}</small>"
    difference = figure.difference
    if difference is None:
        return value, MISSING
    mood = _MOOD_OF.get(difference.verdict, "")
    return value, f'{points(difference)}<br><small class="{mood}">{difference.verdict}</small>'


def _classes(figures: Figures, frames: str) -> str:
    """Return a table for each figure by class: one line for each class, one column for each file."""
    parts = []
    for kind, name in _BY_CLASS.items():
        by_row = {row.name: _by_class(row.scores[frames], kind) for row in figures.rows}
        classes = [label for label, figure in next(iter(by_row.values())).items() if figure.value is not None]
        if not classes:
            continue
        rows = [[escape(label), *(_class_cell(found.get(label)) for found in by_row.values())] for label in classes]
        parts.append(
            f"<h3>{name} of each class on {escape(frames)}</h3>{html_table([['', *map(escape, by_row)], *rows])}"
        )
    return "".join(parts)


def _by_class(scores: ScoreFigures, kind: str) -> dict[str, Figure]:
    found: dict[str, Figure] = getattr(scores, kind)
    return found


def _class_cell(figure: Figure | None) -> str:
    if figure is None:
        return MISSING
    difference = figure.difference
    if difference is None:
        return percent(figure.value)
    mood = _MOOD_OF.get(difference.verdict, "")
    return f'{percent(figure.value)} <small class="{mood}">{points(difference)}</small>'


def _escaped(cells: Iterable[str]) -> list[str]:
    return [escape(cell) for cell in cells]
