"""Types of command-line arguments. argparse turns their errors into a sentence and exit status 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

MAX_COUNT = 1_000_000_000
MAX_THREADS = 256


def path_argument(text: str) -> Path:
    """Read a path. An empty text, often a shell variable that is not set, would be taken for the working directory."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a path, got an empty text; name a file or a folder")
    return Path(text)


def whole_number(low: int, high: int = MAX_COUNT, multiple_of: int = 1) -> Callable[[str], int]:
    """Return a type for whole numbers from `low` to `high`, both included, that are multiples of `multiple_of`."""
    kind = "a whole number" if multiple_of == 1 else f"a multiple of {multiple_of}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high or value % multiple_of:
            raise argparse.ArgumentTypeError(f"expected {kind} from {low} to {high}, got {text!r}")
        return value

    return read
