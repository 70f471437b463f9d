"""Reads JSON files of labels: bounded, and with one sentence about what is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from training.data.image_files import MAX_SIDE_PX
from training.errors import DataError

MAX_COORDINATE_PX = 16 * MAX_SIDE_PX
Kind = TypeVar("Kind", dict[str, Any], list[Any])


def read_object(path: Path, max_bytes: int, remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: The file, in UTF-8.
        max_bytes: Largest size of the file.
        remedy: End of an error: what to do.

    Raises:
        DataError: The file is missing, too large, not JSON, or holds another kind of value.
    """
    return _read(path, max_bytes, remedy, dict)


def read_list(
    path: Path, max_bytes: int, remedy: str, kept: Callable[[dict[str, Any]], Any] | None = None
) -> list[Any]:
    """Return the list in a JSON file; see `read_object`. `kept` takes the place of each object while it is read."""
    return _read(path, max_bytes, remedy, list, kept)


def is_number(value: object) -> bool:
    """Return whether a value of a JSON file is a finite number that may be a place in a picture."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_COORDINATE_PX


def _read(
    path: Path, max_bytes: int, remedy: str, kind: type[Kind], kept: Callable[[dict[str, Any]], Any] | None = None
) -> Kind:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ValueError(f"expected at most {max_bytes} bytes, it is longer")
        value = json.loads(content, object_hook=kept)
        if not isinstance(value, kind):
            raise ValueError(f"expected {'an object' if kind is dict else 'a list'}, got {type(value).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a JSON file of labels ({error}); {remedy}") from error
    return value
