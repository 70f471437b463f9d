"""Processes whose lines are not counted by `make coverage`.

Counts are a file of each process. Where a test takes its disk, its files or its memory away from a process, the file
would be the first thing that fails.
"""

from __future__ import annotations

from collections.abc import Mapping


def without_counting(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process whose lines are not counted."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE")}
