"""The verdict of a report: what is better, what is worse, which limits hold, in sentences for a reader in a hurry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.errors import RecipeError
from training.evaluation.score_figures import AP50, BETTER, MIOU, NOISE, TOO_FEW, WORSE, Figure, ScoreFigures
from training.evaluation.wording import EVERY_NAME_OF, percent, points
from training.report.measure import MODEL, Measured, MeasuredFrames
from training.report.recipe import LimitRecipe

JUDGED = (MIOU, AP50)


@dataclass(frozen=True)
class Verdict:
    """What a report says first.

    Attributes:
        failed: Sentences about what must not be; empty if the model passes.
        good, bad, open: Sentences about what is better, what is worse, and what cannot be told.
        few: Those of `open` that too few frames keep from being told.
        compared: Whether there was a baseline.
    """

    failed: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    open: tuple[str, ...]
    compared: bool
    few: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if self.failed:
            return "Do not ship this model"
        if not self.compared:
            return "All limits hold; there is no baseline to compare with"
        if self.good:
            return "Better than the baseline"
        if self.few:
            return "Too few frames to say whether it is worse than the baseline"
        return "No worse than the baseline"


def verdict_of(measured: Measured) -> Verdict:
    """Judge a model.

    It fails if a mean is worse than that of the baseline beyond the noise, or if a limit is broken.

    Raises:
        RecipeError: A limit names a figure that the model does not have.
    """
    said: dict[str, list[str]] = {BETTER: [], WORSE: [], NOISE: [], TOO_FEW: []}
    compared = "baseline" in measured.models
    for frames in measured.sets if compared else ():
        for word, sentence in _differences(frames):
            said.get(word, said[NOISE]).append(sentence)
    failed = [*said[WORSE], *_broken(measured)]
    few = tuple(said[TOO_FEW])
    return Verdict(tuple(failed), tuple(said[BETTER]), tuple(said[WORSE]), (*said[NOISE], *few), compared, few)


def _differences(frames: MeasuredFrames) -> Iterator[tuple[str, str]]:
    figures = frames.figures[MODEL].means
    for mean in JUDGED:
        figure = figures.get(mean)
        before = frames.figures["baseline"].means.get(mean)
        if before is not None and before.value is not None and (figure is None or figure.value is None):
            yield WORSE, f"{EVERY_NAME_OF[mean]} on {frames.name}: the baseline has it, the model does not."
        elif figure is not None and figure.difference is not None:
            words = f"{percent(figure.value)} %, {points(figure.difference)} points, {figure.difference.verdict}"
            yield figure.difference.verdict, f"{EVERY_NAME_OF[mean]} on {frames.name}: {words}."


def _broken(measured: Measured) -> Iterator[str]:
    by_name = {frames.name: frames for frames in measured.sets}
    for limit in measured.recipe.limits:
        found = _value(by_name[limit.frames].figures[MODEL], limit)
        if found is None or found.value is None:
            yield f"{limit.figure} on {limit.frames}: at least {percent(limit.at_least)} % is asked for; no value."
        elif found.value < limit.at_least:
            yield (
                f"{limit.figure} on {limit.frames}: {percent(found.value)} %, at least {percent(limit.at_least)} % "
                "is asked for."
            )


def _value(figures: ScoreFigures, limit: LimitRecipe) -> Figure | None:
    kind, _, name = limit.figure.partition(".")
    if not name:
        return figures.means.get(kind)
    by_class: dict[str, Figure] = getattr(figures, kind, {}) if kind in ("iou", "boundary_iou", "ap", "ap50") else {}
    if name not in by_class:
        known = ", ".join([*figures.means, *(f"iou.{each}" for each in figures.iou)])
        raise RecipeError(f"limits: expected a figure of the model, for example {known}; got {limit.figure!r}")
    return by_class[name]
