"""Reads text files with one object a line, and names every line that is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from training.errors import DataError

MAX_TEXT_BYTES = 1 << 26
_SHOWN_LINES = 3

Parsed = TypeVar("Parsed")


class RowError(ValueError):
    """A line of a label file has another form than expected."""


def read_text(path: Path) -> str:
    """Return the content of a text file in UTF-8.

    Raises:
        DataError: The file is missing, larger than MAX_TEXT_BYTES, or not text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise ValueError(f"it is larger than {MAX_TEXT_BYTES} bytes")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"{path}: expected a text file, there is no such file; add it, or leave its frame out"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a text file in UTF-8 ({error}); write it again or remove it") from error


def read_rows(path: Path, parse: Callable[[list[str]], Parsed]) -> list[Parsed]:
    """Return what `parse` makes of the words of each line that is not empty.

    Args:
        path: The file.
        parse: Reads one line; raises RowError if it is wrong.

    Raises:
        DataError: The file cannot be read, or lines are wrong: the first ones are named by their number.
    """
    rows: list[Parsed] = []
    problems: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            if line.strip():
                rows.append(parse(line.split()))
        except RowError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        more = len(problems) - _SHOWN_LINES
        shown = [*problems[:_SHOWN_LINES], *([f"and {more} more lines"] if more > 0 else [])]
        raise DataError(f"{path}: {' | '.join(shown)}")
    return rows


def finite_numbers(words: list[str]) -> list[float]:
    """Return words as numbers.

    Raises:
        RowError: One of them is not a finite number.
    """
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise RowError(f"expected numbers ({error}); correct it") from error
    if not all(map(math.isfinite, numbers)):
        raise RowError(f"expected finite numbers, got {' '.join(words)[:80]}; correct it")
    return numbers
