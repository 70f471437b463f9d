"""Markers that follow from the folder of a test, and the line that says which tests a run leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pytest
from checkout import ROOT

MARKERS = ("graph", "training", "slow", "alone")
OF_FOLDERS = {ROOT / "tests" / "ros": "graph", ROOT / "tests" / "training": "training"}


def mark_by_folder(items: Iterable[pytest.Item]) -> None:
    """Add the marker of its folder to each test."""
    for item in items:
        for folder, marker in OF_FOLDERS.items():
            if item.path.is_relative_to(folder):
                item.add_marker(marker)


def count_markers(items: Iterable[pytest.Item]) -> Counter[str]:
    """Count all tests, and the tests of each marker."""
    counts: Counter[str] = Counter()
    for item in items:
        counts.update(["all", *(marker for marker in MARKERS if item.get_closest_marker(marker))])
    return counts


def left_out(counts: Mapping[str, int]) -> str:
    """Return a sentence on how many tests a run leaves out; empty if it leaves out no test."""
    if not counts.get("all"):
        return ""
    marked = ", ".join(f"{counts[marker]} marked {marker}" for marker in MARKERS if counts.get(marker))
    return f"{counts['all']} tests left out ({marked or 'without a marker'}); .ci/run runs every test"
