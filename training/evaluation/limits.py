"""Limits of figures, so that a pipeline can refuse a model: `--at-least` and `--not-worse-than`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.evaluation.report import Scored

_EXPECTED = "expected NAME=SHARE, for example miou=0.65 or ap50.car=0.6"


@dataclass(frozen=True)
class Limit:
    """The least share 0..1 that a figure must have; `of` is a class, or empty for a figure of all classes."""

    figure: str
    of: str
    share: float

    @property
    def name(self) -> str:
        """The figure as a command line names it."""
        return f"{self.figure}.{self.of}" if self.of else self.figure

    def __str__(self) -> str:
        return f"{self.name} of at least {100 * self.share:.2f} %"


def limit(text: str) -> Limit:
    """Read a limit of a command line.

    Raises:
        argparse.ArgumentTypeError: It is not a limit.
    """
    name, equals, share = text.partition("=")
    figure, _, of = name.strip().partition(".")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not (equals and figure and 0 <= value <= 1):
        raise argparse.ArgumentTypeError(f"{_EXPECTED}, with a share from 0 to 1, got {text[:80]!r}")
    return Limit(figure, of, value)


def unknown_limits(limits: Sequence[Limit], scored: Sequence[Scored]) -> str:
    """Return a sentence about the first limit of a figure that a model does not have; empty if there is none."""
    for each in limits:
        for model in scored:
            known = _figures(model)
            if (each.figure, each.of) not in known:
                names = ", ".join(sorted({f"{figure}.{of}" if of else figure for figure, of in known}))
                return f"--at-least: {model.name} has no figure {each.name}; it has {names}"
    return ""


def broken_limits(limits: Sequence[Limit], scored: Sequence[Scored]) -> Iterator[str]:
    """Yield a sentence for each limit that a model does not keep."""
    for each in limits:
        for model in scored:
            value = _figures(model)[each.figure, each.of]
            if value is None:
                yield f"{model.name}: expected {each}, the labels do not yield it"
            elif value < each.share:
                yield f"{model.name}: expected {each}, got {100 * value:.2f} %"


def worse_than_first(scored: Sequence[Scored]) -> Iterator[str]:
    """Yield a sentence for each model that is worse than the first beyond the noise, in a mean of all classes."""
    from training.evaluation.score_figures import AP50, MIOU, TOO_FEW, WORSE
    from training.evaluation.wording import EVERY_NAME_OF, points

    for model in scored[1:]:
        for mean in (MIOU, AP50):
            figure = model.figures.means.get(mean)
            if figure is None or figure.difference is None:
                if mean in scored[0].figures.means and scored[0].figures.means[mean].value is not None:
                    yield f"{model.name} has no {EVERY_NAME_OF[mean]}, {scored[0].name} has one"
            elif figure.difference.verdict == WORSE or (
                figure.difference.verdict == TOO_FEW and figure.difference.value < 0
            ):
                yield f"{model.name} is worse than {scored[0].name} in {EVERY_NAME_OF[mean]}: " + (
                    f"{points(figure.difference)} points"
                )


def _figures(scored: Scored) -> dict[tuple[str, str], float | None]:
    figures = scored.figures
    found = {(mean, ""): figure.value for mean, figure in figures.means.items()}
    for kind in ("iou", "boundary_iou", "ap", "ap50"):
        found |= {(kind, name): figure.value for name, figure in getattr(figures, kind).items()}
    return found
