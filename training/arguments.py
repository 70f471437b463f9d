"""Types of command-line arguments. argparse turns their errors into a sentence and exit status 2."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from ros_kd_perception.system.output_paths import OutputPathError, check_writable
from training.config.names import FOLDER_NAME_RULE, is_folder_name

MAX_THREADS = 256
MAX_COUNT = 1_000_000_000


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


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a type for numbers from `low` to `high`, both included."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # also refuses NaN
            raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, got {text!r}")
        return value

    return read


def folder_name(text: str) -> str:
    """Check a name that becomes a folder."""
    if not is_folder_name(text):
        raise argparse.ArgumentTypeError(f"expected {FOLDER_NAME_RULE}, got {text!r}")
    return text


def some_text(text: str) -> str:
    """Check text that must not be empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected some text, got none; name something, or leave the option out")
    return text


def file_to_write(text: str) -> Path:
    """Check that a file can be written, before the work whose result it is."""
    path = Path(some_text(text))
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file to write, {text} is a folder; name a file in it")
    _check_writable(path.parent)
    return path


def folder_to_write(text: str) -> Path:
    """Check that files can be written into a folder, which need not exist yet."""
    path = Path(some_text(text))
    _check_writable(path)
    return path


def _check_writable(folder: Path) -> None:
    try:
        check_writable(folder)
    except OutputPathError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
