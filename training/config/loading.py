"""Reads settings from YAML files and changes their keys as `--override` asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic

from training.config.place import Place
from training.config.sentences import MAX_SHOWN_CHARACTERS, shown
from training.config.settings import Section
from training.config.yaml_text import read_yaml
from training.errors import RecipeError

MAX_RECIPE_BYTES = 1 << 20
_SHIPPED = "the folders of training/ hold files to start from"
# YAML 1.1 reads a number with an exponent but without a dot, such as 1e-3, as text.
_EXPONENT_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def load_settings(path: Path, section: type[Section], overrides: Sequence[str] = ()) -> Section:
    """Read a YAML file into settings, every key and value checked.

    Args:
        path: The file.
        section: What it must hold.
        overrides: Changes as `key=value` with a dotted key, for example `optimizer.learning_rate=1e-3` or
            `data.train.0.folder=frames`.

    Raises:
        RecipeError: The file cannot be read, a key is unknown or missing, or a value is not valid.
    """
    return parse_settings(read_settings_text(path), section, overrides, where=str(path))


def read_settings_text(path: Path) -> str:
    """Return the text of a YAML file.

    Raises:
        RecipeError: The file cannot be read, or it is too long for settings.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECIPE_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe or other settings: {_found(error)}") from error
    if len(content) > MAX_RECIPE_BYTES:
        raise RecipeError(f"{path}: expected a recipe, a text of at most {MAX_RECIPE_BYTES} bytes, this is longer")
    return text


def _found(error: OSError | ValueError) -> str:
    """Say what was found where settings were expected, and what to do."""
    if isinstance(error, UnicodeDecodeError):
        return "it is a file of another kind, not UTF-8 text; name a .yaml file"
    if isinstance(error, FileNotFoundError):
        return "there is nothing; check the path, which starts at the working directory if it is relative"
    if isinstance(error, IsADirectoryError):
        return "it is a folder; name a .yaml file in it"
    reason = error.strerror if isinstance(error, OSError) else error  # ValueError: a path that no file can have
    return f"{reason}; check the file and its permissions"


def parse_settings(text: str, section: type[Section], overrides: Sequence[str] = (), where: str = "recipe") -> Section:
    """Read YAML text into settings; see `load_settings`. Errors begin with `where`."""
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise RecipeError(f"{where}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        found = "nothing: it is empty" if content is None else shown(content)
        raise RecipeError(f"{where}: expected keys with values, such as `name: student`, got {found}; {_SHIPPED}")
    for override in overrides:
        apply_override(content, override)
    _read_exponents(content, section)
    try:
        return section.checked(content)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def _read_exponents(content: dict[Any, Any], section: type[Section]) -> None:
    """Turn text such as 1e-3 into a number wherever the settings expect one."""
    try:
        section.model_validate(content)
    except pydantic.ValidationError as error:
        for found in error.errors(include_url=False):
            value = found["input"]
            if found["type"] == "float_type" and isinstance(value, str) and _EXPONENT_NUMBER.fullmatch(value):
                _put(content, Place.of(found["loc"], {}, content).key, float(value))


def apply_override(content: dict[Any, Any], override: str, option: str = "--override") -> None:
    """Change a key as `key=value` asks; the value is YAML.

    Args:
        content: What the file holds; it is changed.
        override: The change.
        option: Where the user wrote it; begins errors.

    Raises:
        RecipeError: It is no `key=value`, or the key has no place.
    """
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"{option} needs key=value, for example limit=3, got '{override[:MAX_SHOWN_CHARACTERS]}'")
    try:
        _put(content, key, read_yaml(value))
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"{option} {override[:MAX_SHOWN_CHARACTERS]}: no such place in the settings, or no value in YAML ({error})"
        ) from error


def _put(content: dict[Any, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key; sections on the way are made if they are missing."""
    *parents, last = key.split(".")
    place: Any = content
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
    if isinstance(place, list):
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise TypeError(f"{'.'.join(parents)} holds {shown(place)}, which has no keys")
