"""Figures in words: shares in percent, with intervals, and differences in points."""

from __future__ import annotations

from collections.abc import Iterable

from training.evaluation.score_figures import (
    ACCURACY,
    AP,
    AP50,
    AP_OF_SIZE,
    AR,
    BOUNDARY_IOU,
    MIOU,
    WEIGHTED_IOU,
    Difference,
    Figure,
)

NAME_OF = {MIOU: "mIoU", AP50: "AP50", AP: "AP"}
EVERY_NAME_OF = {
    MIOU: "mIoU",
    ACCURACY: "pixel accuracy",
    WEIGHTED_IOU: "frequency-weighted IoU",
    BOUNDARY_IOU: "boundary IoU",
    AP: "AP",
    AP50: "AP50",
    AR: "AR",
    **{mean: f"AP of {size} boxes" for size, mean in AP_OF_SIZE.items()},
}
MISSING = "-"


def percent(share: float | None) -> str:
    """Return a share 0..1 in percent."""
    return MISSING if share is None else f"{100 * share:.2f}"


def interval(figure: Figure) -> str:
    """Return the interval of a figure in percent; empty if it has none."""
    return "" if figure.low is None or figure.high is None else f"{percent(figure.low)} .. {percent(figure.high)}"


def with_interval(figure: Figure) -> str:
    """Return a figure in percent with its interval."""
    ends = interval(figure)
    return f"{percent(figure.value)} ({ends})" if ends else percent(figure.value)


def points(difference: Difference | None) -> str:
    """Return a difference in points with its interval."""
    if difference is None:
        return MISSING
    text = f"{100 * difference.value:+.2f}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} ({100 * difference.low:+.2f} .. {100 * difference.high:+.2f})"


def table_line(cells: Iterable[str]) -> str:
    """Return a line of a Markdown table."""
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
