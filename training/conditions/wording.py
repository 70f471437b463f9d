"""The figures in words: a plain verdict and a table for each network."""

from __future__ import annotations

from collections.abc import Iterable

from training.conditions.figures import HALF, ConditionFigures, Curve, NetworkFigures, Robustness
from training.evaluation.score_figures import Figure
from training.evaluation.wording import MISSING, NAME_OF, percent, with_interval

_WORST = 3


def text_of(robustness: Robustness) -> str:
    """Return verdict and table of each network, and what was left out, as text."""
    parts = [f"frames: {'; '.join(robustness.frames.values())}", *robustness.left_out]
    for network in robustness.networks:
        parts += ["", f"# {network.name}", "", *verdict(network), "", table_of(network)]
    if len(robustness.networks) > 1:
        parts += ["", "# all networks", "", _summary(robustness.networks)]
    return "\n".join(parts)


def verdict(network: NetworkFigures) -> list[str]:
    """Return what a reader should know of a network, in sentences."""
    said = []
    for mean, figure in network.overall.items():
        ranked = _ranked(network, mean)
        if figure.value is None or not ranked:
            continue
        name, count = NAME_OF[mean], len(ranked)
        conditions = f"{count} condition{'s' * (count > 1)}"
        worst = ", ".join(f"{each.name} ({_whole(curve.robustness)})" for each, curve in ranked[:_WORST])
        said.append(f"{name} keeps {with_interval(figure)} % of its clean value, the mean of {conditions}.")
        said.append(f"{name} suffers most in {worst}.")
        halved = [(each, severity) for each, curve in ranked if (severity := halved_at(each, curve))]
        listed = ", ".join(f"{each.name} from severity {severity}" for each, severity in halved)
        said.append(f"{name} falls below half of clean in {listed}." if halved else f"{name} never falls below half.")
    return said or ["The labels of these frames yield no score on clean frames."]


def halved_at(condition: ConditionFigures, curve: Curve) -> int | None:
    """Return the first severity from which on the score stays below half of the clean one; None if it never does."""
    first = None
    for severity, figure in zip(condition.severities, curve.kept, strict=True):
        below = figure.value is not None and figure.value < HALF
        first = (first or severity) if below else None
    return first


def table_of(network: NetworkFigures) -> str:
    """Return a line for each condition, in percent: the score at each severity, and the mean share of the clean one."""
    lines = []
    for mean in network.overall:
        rows = [(each, each.curves[mean]) for each in network.conditions if mean in each.curves]
        severities = rows[0][0].severities
        width = max(len(each.name) for each, _ in rows)
        heads = ["clean", *map(str, severities)]
        lines += [f"{NAME_OF[mean] + ', %':<{width}} {_columns(heads)}   kept, % of clean"]
        for each, curve in rows:
            scores = _columns(percent(figure.value) for figure in curve.scores)
            lines.append(f"{each.name:<{width}} {scores}   {with_interval(curve.robustness)}")
        for family, means in network.families.items():
            if mean in means:
                lines.append(f"{family:<{width}} {_columns([''] * len(heads))}   {with_interval(means[mean])}")
        lines += [f"{'all':<{width}} {_columns([''] * len(heads))}   {with_interval(network.overall[mean])}", ""]
    return "\n".join(lines[:-1])


def _summary(networks: Iterable[NetworkFigures]) -> str:
    """Return what each network keeps, over all conditions and in each family."""
    lines = []
    for network in networks:
        for mean, figure in network.overall.items():
            families = ", ".join(
                f"{family} {_whole(means[mean])}" for family, means in network.families.items() if mean in means
            )
            lines.append(f"{network.name}: {NAME_OF[mean]} keeps {with_interval(figure)} %: {families}")
    return "\n".join(lines)


def _ranked(network: NetworkFigures, mean: str) -> list[tuple[ConditionFigures, Curve]]:
    """Return the conditions with a figure, the worst first."""
    found = [(each, each.curves[mean]) for each in network.conditions if mean in each.curves]
    values = {each.name: curve.robustness.value for each, curve in found}
    known = [(each, curve) for each, curve in found if values[each.name] is not None]
    return sorted(known, key=lambda pair: values[pair[0].name] or 0.0)


def _whole(figure: Figure) -> str:
    return MISSING if figure.value is None else f"{100 * figure.value:.0f} %"


def _columns(cells: Iterable[str]) -> str:
    return " ".join(f"{cell:>6}" for cell in cells)
