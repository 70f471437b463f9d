"""The part of a report about harder conditions: what the model keeps of its scores, beside the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from matplotlib.axes import Axes

from ros_kd_perception.drawing.plots import page_svg
from training.conditions.figures import ConditionFigures, NetworkFigures, Robustness
from training.conditions.measure import DATA, RENDERED
from training.conditions.wording import halved_at, verdict
from training.evaluation.page import html_list, html_table
from training.evaluation.score_figures import Figure
from training.evaluation.wording import MISSING, NAME_OF, interval, percent
from training.report.plots import Draw, enlarge

HEIGHT_PX, FONT = 640, 40  # of plots that take a third of the width of the page
_STYLES = ("-", "--")
_TITLES = {DATA: "Labelled frames, changed", RENDERED: "Rendered frames"}
_SAID = {
    DATA: "Noise, blur and weather are computed into the frames.",
    RENDERED: "The renderer makes weather and light, and moves the camera, in streets that are the same each time; "
    "masks and boxes are exact.",
}


def harder_conditions(robustness: Robustness) -> str:
    """Return the section: verdict, then for each set of frames a table with a line for each condition, and curves."""
    model = next(network for network in robustness.networks if network.name == "model")
    sets = [key for key in robustness.frames if any(each.frames == key for each in model.conditions)]
    parts = [_set(robustness, model, key, last=key == sets[-1]) for key in sets]
    return (
        "<h2>In harder conditions</h2><p>Severity 1 is slight, 5 is extreme. Kept: the mean over severities of the "
        "score as a share of that on clean frames.</p>"
        f'<div class="card">{html_list(verdict(model))}{html_list(robustness.left_out)}</div>{"".join(parts)}'
    )


def _set(robustness: Robustness, model: NetworkFigures, key: str, *, last: bool) -> str:
    """Return the table and the curves of the conditions of one set of frames; the last one has the means of all."""
    places = [place for place, condition in enumerate(model.conditions) if condition.frames == key]
    plots = "".join(_card(robustness, place, model.conditions[place]) for place in places)
    rows = [*_rows(robustness.networks, places), *([_overall(robustness.networks)] if last else [])]
    return (
        f"<h3>{escape(_TITLES[key])}</h3><p>{escape(robustness.frames[key])}. {_SAID[key]}</p>"
        f"{html_table([_heads(robustness.networks), *rows])}"
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


def _rows(networks: Sequence[NetworkFigures], places: Sequence[int]) -> Iterator[list[str]]:
    for place in places:
        condition, cells = networks[0].conditions[place], []
        for network in networks:
            curves = network.conditions[place].curves
            cells += [_kept(curves[mean].robustness) if mean in curves else MISSING for mean in network.overall]
        halved = [
            f"{NAME_OF[mean]} from {severity}"
            for mean, curve in next(n for n in networks if n.name == "model").conditions[place].curves.items()
            if (severity := halved_at(condition, curve))
        ]
        values = f"{condition.parameter}: {', '.join(f'{value:g}' for value in condition.values)}"
        said = f"{condition.words.removeprefix('rendered: ')}<br>{values}"
        words = f'{escape(condition.name)}<small class="said">{said}</small>'
        yield [words, *cells, "<br>".join(halved)]


def _overall(networks: Sequence[NetworkFigures]) -> list[str]:
    overall = [_kept(network.overall[mean]) for network in networks for mean in network.overall]
    return ["<b>all conditions</b>", *overall, ""]


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
