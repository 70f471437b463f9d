"""The limits of a comparison: their options, what they measure, and the verdict."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ros_kd_perception.differences.figures import Figures
from ros_kd_perception.differences.masks import class_ious

LEAST_CLASS_SHARE = 0.001
"""A class counts for `--min-class-iou` if at least one side gives it this share of the compared pixels."""


@dataclass(frozen=True)
class Measured:
    """A figure that a limit judges.

    Attributes:
        value: The figure. None if there is nothing to measure.
        where: The class or frame that it comes from. Empty if it is one of all frames.
    """

    value: float | None
    where: str = ""


@dataclass(frozen=True)
class Limit:
    """A limit and its option.

    Attributes:
        option: Name of the option.
        text: What is measured, for the help and the report.
        words: What follows the value in a sentence.
        default: Value without the option.
        is_most: Whether the value may be at most the limit. Otherwise it must be at least the limit.
        measure: Takes the figure.
    """

    option: str
    text: str
    words: str
    default: float
    is_most: bool
    measure: Callable[[Figures], Measured]

    @property
    def key(self) -> str:
        """Name of the option in a namespace and in JSON."""
        return self.option.removeprefix("--").replace("-", "_")


def _worst_frame(figures: Figures) -> Measured:
    rows = [row for row in figures.rows if row.changed_share is not None]
    if not rows:
        return Measured(None)
    worst = max(rows, key=lambda row: row.changed_share or 0.0)
    return Measured(worst.changed_share, f"{worst.camera} at {worst.position_ns / 1e9:.1f} s")


def _worst_class(figures: Figures) -> Measured:
    if figures.classes.masks is None:
        return Measured(None)
    pixels = figures.total.pixels
    ious = class_ious(pixels)
    seen = np.maximum(pixels.sum(axis=1), pixels.sum(axis=0))[:-1] / max(1, pixels.sum())
    counted = [index for index in np.flatnonzero(seen >= LEAST_CLASS_SHARE).tolist() if np.isfinite(ious[index])]
    if not counted:
        return Measured(None)
    worst = min(counted, key=lambda index: float(ious[index]))
    return Measured(float(ious[worst]), figures.classes.masks.names[worst])


LIMITS = (
    Limit(
        "--max-changed-pixels",
        "share of the pixels whose class differs, over all frames",
        "of the pixels have another class",
        0.02,
        True,
        lambda figures: Measured(figures.total.changed_share),
    ),
    Limit(
        "--max-changed-pixels-of-a-frame",
        "share of the pixels whose class differs, in the worst frame",
        "of the pixels have another class in the worst frame",
        0.1,
        True,
        _worst_frame,
    ),
    Limit(
        "--min-class-iou",
        f"IoU between both sides of the worst class with at least {100 * LEAST_CLASS_SHARE:g} % of the pixels",
        "is the IoU of the worst class between both sides",
        0.7,
        False,
        _worst_class,
    ),
    Limit(
        "--max-left-out-pixels",
        "share of the pixels that are not compared, because only one side has their class",
        "of the pixels are not compared, because one side lacks their class",
        0.5,
        True,
        lambda figures: Measured(figures.total.left_out_share),
    ),
    Limit(
        "--max-lost-boxes",
        "share of the old boxes that have no new box of their class with an IoU of at least 0.5",
        "of the old boxes are lost",
        0.1,
        True,
        lambda figures: Measured(figures.total.lost_share),
    ),
    Limit(
        "--max-new-boxes",
        "share of the new boxes that have no old box of their class with an IoU of at least 0.5",
        "of the new boxes were not there before",
        0.1,
        True,
        lambda figures: Measured(figures.total.gained_share),
    ),
    Limit(
        "--min-box-iou",
        "mean IoU of the boxes on both sides",
        "is the mean IoU of the boxes on both sides",
        0.85,
        False,
        lambda figures: Measured(figures.total.mean_iou),
    ),
    Limit(
        "--max-score-change",
        "mean distance of the two scores of a box on both sides",
        "is the mean distance of the two scores of a box on both sides",
        0.05,
        True,
        lambda figures: Measured(figures.total.score_distance),
    ),
    Limit(
        "--max-one-sided-frames",
        "share of the frames that only one side has",
        "of the frames are on one side only",
        0.1,
        True,
        lambda figures: Measured(figures.total.one_sided_share),
    ),
)


@dataclass(frozen=True)
class Judged:
    """A limit with its figure.

    Attributes:
        limit: The limit.
        bound: Its value in this comparison, 0..1.
        measured: The figure.
    """

    limit: Limit
    bound: float
    measured: Measured

    @property
    def is_kept(self) -> bool:
        """Whether the figure is within the limit. A figure that could not be measured is."""
        value = self.measured.value
        return value is None or (value <= self.bound if self.limit.is_most else value >= self.bound)

    def sentence(self) -> str:
        """Return what came, what was expected, and the option that sets it."""
        where = f" ({self.measured.where})" if self.measured.where else ""
        found = f"{percent(self.measured.value)} {self.limit.words}{where}"
        return f"{found}, expected {self.bound_in_words} ({self.limit.option})"

    @property
    def bound_in_words(self) -> str:
        """The limit as text."""
        return f"{'at most' if self.limit.is_most else 'at least'} {percent(self.bound)}"

    def to_json(self) -> dict[str, Any]:
        """Return the limit for JSON."""
        return {
            "option": self.limit.option,
            "text": self.limit.text,
            "limit": self.bound,
            "is_most": self.limit.is_most,
            "value": self.measured.value,
            "where": self.measured.where,
            "kept": self.is_kept,
        }


def judge(figures: Figures, options: argparse.Namespace) -> list[Judged]:
    """Hold the figures against the limits that the options give."""
    return [Judged(limit, getattr(options, limit.key), limit.measure(figures)) for limit in LIMITS]


def beyond(judged: Sequence[Judged]) -> list[Judged]:
    """Return the limits that are not kept."""
    return [one for one in judged if not one.is_kept]


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each limit."""
    group = parser.add_argument_group("limits", "shares from 0 to 1; beyond one of them the exit status is 1")
    for limit in LIMITS:
        text = f"{'largest' if limit.is_most else 'smallest'} {limit.text}".replace("%", "%%")
        group.add_argument(
            limit.option, type=_share, default=limit.default, metavar="SHARE", help=f"{text}; default: {limit.default}"
        )


def percent(value: float | None) -> str:
    """Return a share as text with as many digits as it needs to differ from zero."""
    if value is None:
        return "not measured"
    digits = 2 if 0 < abs(value) < 0.1 else 1
    text = f"{100 * value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text and not float(text) % 1 else text} %"


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, such as 0.02 for 2 %, got {text!r}")
    return value
