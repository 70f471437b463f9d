"""Figures in words, for the page, the terminal and documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.compression.figures import Figures, Row
from training.evaluation.score_figures import AP50, MIOU
from training.evaluation.wording import MISSING, NAME_OF, percent, points

SHOWN = (MIOU, AP50)


def size_words(row: Row) -> dict[str, str]:
    """Return what a file is, how large it is and how long it takes, by the heads of the columns."""
    work, latency = row.multiply_accumulates, row.latency
    return {
        "precision": row.precision,
        "size, MB": f"{row.size_bytes / 1e6:.2f}",
        "parameters, M": f"{row.parameters / 1e6:.3f}",
        "GMAC": MISSING if work is None else f"{work / 1e9:.3f}",
        "latency, ms": f"{latency.median_ms:.1f} ({latency.low_ms:.1f} .. {latency.high_ms:.1f})",
        "of the parent": f"{latency.ratio:.3f}",
    }


def verdict(figures: Figures, beyond: Sequence[str]) -> list[str]:
    """Return what the last row is worth, in sentences: what it gains, what it loses, whether the budget allows it."""
    parent, result = figures.rows[0], figures.rows[-1]
    sentences = [
        f"The result takes {result.latency.ratio:.2f} of the time of the parent and "
        f"{result.size_bytes / parent.size_bytes:.2f} of its bytes."
    ]
    sentences += list(_changes(result))
    return sentences + [f"Not written: it {sentence}." for sentence in beyond]


def conditions(figures: Figures) -> str:
    """Return how the figures came about."""
    named = "; ".join(f"{name}: {text}" for name, text in figures.frames.items())
    threads = f"{figures.threads} thread{'s' * (figures.threads > 1)}"
    return (
        f"Frames: {named}. Intervals hold 95 % of {figures.resamples} resamples of the frames; differences are to "
        f"{figures.rows[0].name} on the same resamples. Latency: {figures.provider}, {threads}, median and middle "
        f"half of {figures.rounds} rounds, all files in one process in turns."
    )


def _changes(row: Row) -> Iterator[str]:
    for frames, scores in row.scores.items():
        for mean in SHOWN:
            figure = scores.means.get(mean)
            if figure is not None and figure.difference is not None:
                found = figure.difference
                yield f"{NAME_OF[mean]} on {frames}: {points(found)} points, {found.verdict}."
        if scores.agreement is not None:
            yield f"The class map on {frames} is that of the parent in {percent(scores.agreement)} % of the pixels."
