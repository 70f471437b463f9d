"""The part of a report about harder conditions: what the model keeps of its scores, beside the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from matplotlib.axes import Axes

from ros_kd_perception.drawing.plots import page_svg
from training.conditions.figures import ConditionFigures, NetworkFigures, Robustness
from training.conditions.wording import halved_at, verdict
from training.evaluation.page import html_list, html_table
from training.evaluation.score_figures import Figure
from training.evaluation.wording import MISSING, NAME_OF, interval, percent
from training.report.plots import Draw, enlarge

HEIGHT_PX, FONT = 640, 40  # of plots that take a third of the width of the page
_STYLES = ("-", "--")


def harder_conditions(robustness: Robustness) -> str:
    """Return the section: verdict, a table with a line for each condition, and the curves."""
    model = next(network for network in robustness.networks if network.name == "model")
    frames = "; ".join(robustness.frames.values())
    plots = "".join(_card(robustness, place, condition) for place, condition in enumerate(model.conditions))
    return (
        f"<h2>In harder conditions</h2><p>{escape(frames)}. Severity 1 is slight, 5 is extreme. Kept: the mean over "
        "severities of the score as a share of that on clean frames.</p>"
        f'<div class="card">{html_list(verdict(model))}{html_list(robustness.left_out)}</div>'
        f"{html_table([_heads(robustness.networks), *_rows(robustness.networks)])}"
        f'<p>Solid: mIoU, dashed: AP50, in percent. {_legend(robustness.networks)}</p><div class="three">{plots}</div>'
    )


def _legend(networks: Sequence[NetworkFigures]) -> str:
    return " ".join(
        f'<span style="color: var(--series-{number})">&#9632;</span> {escape(network.name)}'
        for number, network in enumerate(networks)
    )


def _card(robustness: Robustness, place: int, condition: ConditionFigures) -> str:
    svg = page_svg(_drawing(robustness, place), f"{condition.name}: {condition.words}", HEIGHT_PX)
    return f'<div class="card"><h3>{escape(condition.name)}</h3>{svg}</div>'


def _heads(networks: Sequence[NetworkFigures]) -> list[str]:
    means = [f"{NAME_OF[mean]} kept, {network.name}, %" for network in networks for mean in network.overall]
    return ["condition", *means, "below half of clean"]


def _rows(networks: Sequence[NetworkFigures]) -> Iterator[list[str]]:
    for place, condition in enumerate(networks[0].conditions):
        cells = []
        for network in networks:
            curves = network.conditions[place].curves
            cells += [_kept(curves[mean].robustness) if mean in curves else MISSING for mean in network.overall]
        halved = [
            f"{NAME_OF[mean]} from {severity}"
            for mean, curve in next(n for n in networks if n.name == "model").conditions[place].curves.items()
            if (severity := halved_at(condition, curve))
        ]
        words = f"{escape(condition.name)}<br><small>{escape(condition.words)}</small>"
        yield [words, *cells, "<br>".join(halved)]
    overall = [_kept(network.overall[mean]) for network in networks for mean in network.overall]
    yield ["<b>all</b>", *overall, ""]


def _kept(figure: Figure) -> str:
    ends = interval(figure)
    return f"{percent(figure.value)} <small>{ends}</small>" if ends else percent(figure.value)


def _drawing(robustness: Robustness, place: int) -> Draw:
    def draw(axes: Axes) -> None:
        for number, network in enumerate(robustness.networks):
            condition = network.conditions[place]
            at = (0, *condition.severities)
            for style, curve in zip(_STYLES, condition.curves.values(), strict=False):
                points = [(x, 100 * f.value) for x, f in zip(at, curve.scores, strict=True) if f.value is not None]
                axes.plot(*zip(*points, strict=True), style, color=f"C{number}", marker=".", ms=9)
        axes.set_xticks((0, *robustness.networks[0].conditions[place].severities))
        axes.set_ylim(0, 100)
        axes.set_xlabel("severity")
        enlarge(axes, FONT)

    return draw
