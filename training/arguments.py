"""Types of command-line arguments. argparse turns their errors into a sentence and exit status 2."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from ros_kd_perception.system.command_arguments import MAX_COUNT as MAX_COUNT
from ros_kd_perception.system.command_arguments import MAX_THREADS as MAX_THREADS
from ros_kd_perception.system.command_arguments import path_argument as path_argument
from ros_kd_perception.system.command_arguments import whole_number as whole_number
from ros_kd_perception.system.output_paths import OutputPathError, check_writable
from training.config.names import FOLDER_NAME_RULE, is_folder_name


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


def file_of_kind(*suffixes: str) -> Callable[[str], Path]:
    """Return a type for a file to write that replaces only a file with one of these suffixes.

    Commands replace what they wrote before, so that they can be repeated. A mistyped name must not cost a bag.
    """

    def read(text: str) -> Path:
        path = file_to_write(text)
        if path.is_file() and path.suffix not in suffixes:
            raise argparse.ArgumentTypeError(
                f"expected a new file, or one that ends with {' or '.join(suffixes)}, {text} exists and would be "
                "replaced; choose another name, or remove it"
            )
        return path

    return read


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
