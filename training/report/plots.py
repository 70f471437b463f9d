"""Plots of a report, as SVG for a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ros_kd_perception.drawing.plots import page_svg
from training.evaluation.confidence import SCORE_BINS, Doubt, Reliability

HEIGHT_PX = 420
LARGE_FONT = 20  # of plots that take half the width of the page
MOST_FRAMES = 400  # of a curve; more would be too many points for a page
Draw = Callable[[Axes], None]


def reliability_svg(found: Reliability, title: str) -> str:
    """Draw the share of right boxes over their score: below the line, scores promise too much."""

    def draw(axes: Axes) -> None:
        middle = (np.arange(SCORE_BINS) + 0.5) / SCORE_BINS
        shares = [np.nan if share is None else share for share in found.right]
        axes.bar(middle, shares, width=0.085, color="C0", alpha=0.75)
        axes.plot([0, 1], [0, 1], "--", color="C1", lw=1.5)
        for x, share, count in zip(middle, found.right, found.boxes, strict=True):
            if share is not None:
                axes.text(x, share + 0.02, str(count), ha="center", fontsize=LARGE_FONT - 3)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.1)
        axes.set_xlabel("score")
        axes.set_ylabel("share that is right")
        enlarge(axes)

    return page_svg(draw, f"Reliability of boxes on {title}", HEIGHT_PX)


def doubt_svg(doubt: Doubt, title: str) -> str:
    """Draw the share of wrong pixels over the share that is kept if the most uncertain blocks are left out."""

    def draw(axes: Axes) -> None:
        axes.plot([100 * share for share in doubt.kept], [100 * share for share in doubt.wrong], color="C0")
        if doubt.wrong:
            axes.axhline(100 * doubt.wrong[-1], ls="--", color="C1", lw=1.5)
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("pixels kept, the most certain first, %")
        axes.set_ylabel("wrong among them, %")
        enlarge(axes)

    return page_svg(draw, f"Wrong pixels over kept pixels on {title}", HEIGHT_PX)


def frames_svg(scores: Sequence[tuple[str, NDArray[np.float64]]], title: str) -> str:
    """Draw the scores of all frames in their order, so that hard stretches of a drive are seen."""

    def draw(axes: Axes) -> None:
        for number, (name, values) in enumerate(scores):
            step = -(-len(values) // MOST_FRAMES)
            axes.plot(np.arange(0, len(values), step), 100 * values[::step], color=f"C{number}", label=name, lw=1.5)
        axes.set_xlabel("frame, in the order of the names")
        axes.set_ylabel("score, %")
        axes.set_ylim(0, 102)
        axes.legend(loc="lower left", frameon=False, fontsize=9, ncols=3)

    return page_svg(draw, f"Score of each frame of {title}", 260)


def enlarge(axes: Axes, font: float = LARGE_FONT) -> None:
    """Enlarge the words of a plot that takes a part of the width of the page."""
    axes.tick_params(labelsize=font)
    axes.xaxis.label.set_fontsize(font)
    axes.yaxis.label.set_fontsize(font)
