"""What the result of a chain lost against its parent, and whether the recipe allows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.compression.figures import Figures, Row
from training.compression.recipe import BudgetRecipe
from training.evaluation.score_figures import AP50, MIOU

METRICS = (MIOU, AP50)


@dataclass(frozen=True)
class Loss:
    """One metric of the result on one set of frames, beside the parent's.

    Attributes:
        metric: `miou` or `ap50`.
        frames: Name of the frames.
        parent: Value of the parent, a share 0..1.
        change: Value of the result minus that of the parent.
    """

    metric: str
    frames: str
    parent: float
    change: float


def losses_of(row: Row) -> list[Loss]:
    """Return what a file lost or gained on all frames, metric by metric."""
    found = []
    for metric in METRICS:
        for frames, scores in row.scores.items():
            figure = scores.means.get(metric)
            if figure is not None and figure.value is not None and figure.difference is not None:
                change = figure.difference.value
                found.append(Loss(metric, frames, figure.value - change, change))
    return found


def agreement_of(row: Row) -> float | None:
    """Return the smallest share of the class map, over all sets of frames, that is equal to the parent's."""
    shares = [scores.agreement for scores in row.scores.values() if scores.agreement is not None]
    return min(shares) if shares else None


def beyond_budget(figures: Figures, result: str, budget: BudgetRecipe) -> list[str]:
    """Return a sentence for each limit that the result misses; empty if it may be written.

    Args:
        figures: What was measured.
        result: Name of its row.
        budget: The limits.
    """
    row = figures.row(result)
    found = list(_beyond_losses(row, budget))
    agreement = agreement_of(row)
    if agreement is not None and agreement < budget.agreement:
        found.append(
            f"agrees with the parent in {agreement:.2%} of the class map, budget.agreement asks for "
            f"{budget.agreement:.2%}; the nearest that it meets is {_down(agreement)}"
        )
    return found


def _beyond_losses(row: Row, budget: BudgetRecipe) -> Iterator[str]:
    for loss in losses_of(row):
        allowed = getattr(budget, loss.metric)
        if -loss.change > allowed:
            yield (
                f"loses {-100 * loss.change:.2f} points of {loss.metric} on {loss.frames}, budget.{loss.metric} allows "
                f"{100 * allowed:.2f}; the nearest that it meets is {_up(-loss.change)}"
            )


def _up(share: float) -> float:
    """Round up to a tenth of a point."""
    return round(share + 0.0005, 3)


def _down(share: float) -> float:
    return round(share - 0.0005, 3)
