"""Limits of stability, so that a pipeline can refuse a model: `--at-most NAME=VALUE`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.stability.figures import NAMES, Stability

_EXPECTED = "expected NAME=VALUE, for example flicker=0.02 or first_found_ms=300"


@dataclass(frozen=True)
class UpperLimit:
    """The greatest value that a figure may have on every source that yields it."""

    figure: str
    value: float


def upper_limit(text: str) -> UpperLimit:
    """Read a limit of a command line.

    Raises:
        argparse.ArgumentTypeError: It is not a limit.
    """
    figure, equals, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (equals and figure.strip() and 0 <= value < math.inf):
        raise argparse.ArgumentTypeError(f"{_EXPECTED}, with a number from 0 on, got {text[:80]!r}")
    if figure.strip() not in NAMES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(NAMES)}, got {figure.strip()[:80]!r}")
    return UpperLimit(figure.strip(), value)


def missing_figure(limits: Sequence[UpperLimit], stability: Stability) -> str:
    """Return a sentence about the first limit of a figure that a network does not have; empty if there is none."""
    for each in limits:
        for network, sources in stability.networks.items():
            known = {name for figures in sources.values() for name in figures.values}
            if each.figure not in known:
                there = ", ".join(sorted(known))
                return f"--at-most: {network} has no figure {each.figure} on these frames; it has {there}"
    return ""


def broken_limits(limits: Sequence[UpperLimit], stability: Stability) -> Iterator[str]:
    """Yield a sentence for each limit that a network does not keep."""
    for each in limits:
        for network, source, values in stability.values():
            value = values.get(each.figure, 0.0)
            where = f"{network} on {source}: expected {each.figure} of at most {each.value:g}"
            if value is None:
                yield f"{where}, these frames do not yield it"
            elif value > each.value:
                yield f"{where}, got {value:.4g}"
