"""Reads recipes: YAML checked into the dataclasses of `training.config.recipe` before anything slow starts."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from training.config.recipe import Recipe
from training.config.yaml_text import read_yaml
from training.errors import RecipeError

MAX_RECIPE_BYTES = 1 << 20
MAX_SHOWN_CHARACTERS = 120

Section = TypeVar("Section")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file; see `load_section`."""
    return load_section(path, Recipe, overrides)


def parse_recipe(text: str, overrides: Sequence[str] = (), where: str = "recipe") -> Recipe:
    """Check YAML text into a Recipe; see `load_section`."""
    return parse_section(text, Recipe, overrides, where)


def load_section(path: Path, section: type[Section], overrides: Sequence[str] = ()) -> Section:
    """Read a YAML file into a dataclass, every key and value checked.

    Args:
        path: YAML file.
        section: a dataclass.
        overrides: `key=value` with a dotted key (`optimizer.learning_rate=1e-3`, `data.train.0.folder=x`).

    Raises:
        RecipeError: not readable, an unknown key, a wrong type or a number out of range.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECIPE_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path that no file can have
        raise RecipeError(f"{path}: cannot be read as a recipe ({error}); recipes are in training/recipes/") from error
    if len(content) > MAX_RECIPE_BYTES:
        raise RecipeError(f"{path}: expected a recipe, a text of at most {MAX_RECIPE_BYTES} bytes, this is longer")
    return parse_section(text, section, overrides, where=str(path))


def parse_section(text: str, section: type[Section], overrides: Sequence[str] = (), where: str = "recipe") -> Section:
    """Check YAML text into a dataclass; see `load_section`."""
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise RecipeError(f"{where}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: expected keys with values, got {type(content).__name__}")
    for override in overrides:
        _apply_override(content, override)
    try:
        checked = _check(content, section, "", {})
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    assert isinstance(checked, section)
    return checked


def _apply_override(content: dict[Any, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--override needs key=value, for example epochs=3, got '{override[:MAX_SHOWN_CHARACTERS]}'")
    *parents, last = key.split(".")
    place: Any = content
    try:
        for parent in parents:
            if isinstance(place, list):
                place = place[int(parent)]
            else:
                place = place.setdefault(parent, {})
        if isinstance(place, list):
            place[int(last)] = read_yaml(value)
        elif isinstance(place, dict):
            place[last] = read_yaml(value)
        else:
            raise TypeError(f"{'.'.join(parents)} holds {_shown(place)}, which has no keys")
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"--override {override[:MAX_SHOWN_CHARACTERS]}: no such place in the recipe, or no value in YAML ({error})"
        ) from error


def _check(value: Any, expected: Any, key: str, limits: Mapping[str, Any]) -> Any:
    """Check a value read from YAML against a type; `limits` are the field's low and high."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if dataclasses.is_dataclass(expected):
        return _check_section(value, typing.cast(type, expected), key)
    if origin is Literal:
        if value not in arguments:
            names = ", ".join(map(str, arguments))
            raise RecipeError(f"{key} must be one of {names}, got {_shown(value)}{suggestion(value, arguments)}")
        return value
    if origin is types.UnionType:
        if value is None and types.NoneType in arguments:
            return None
        members = [member for member in arguments if member is not types.NoneType]
        return _check(value, members[0] if len(members) == 1 else _member_for(value, members, key), key, limits)
    if origin is dict:
        return _check_plain(value, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{key} must be a list, got {_shown(value)}")
        return tuple(_check(item, arguments[0], f"{key}.{number}", limits) for number, item in enumerate(value))
    return _check_scalar(value, expected, key, limits)


def _member_for(value: Any, members: Sequence[Any], key: str) -> Any:
    """The one of several types that a value is meant for: a list or what stands in it, or a section by its kind."""
    lists = [member for member in members if typing.get_origin(member) is tuple]
    if not lists:
        return _by_kind(value, members, key)
    return next(member for member in members if (member in lists) == isinstance(value, list))


def _by_kind(value: Any, members: Sequence[type], key: str) -> type:
    """The section among several that says `kind: ...` as the value does."""
    by_kind = {typing.get_args(typing.get_type_hints(member)["kind"])[0]: member for member in members}
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in by_kind:
        raise RecipeError(
            f"{key}.kind must be one of {', '.join(by_kind)}, got {_shown(kind)}{suggestion(kind, by_kind)}"
        )
    return by_kind[kind]


def _check_section(value: Any, section: type, key: str) -> Any:
    if not isinstance(value, dict):
        raise RecipeError(f"{key or 'the recipe'} must hold keys with values, got {_shown(value)}")
    hints = typing.get_type_hints(section)
    prefix = f"{key}." if key else ""
    fields = {item.name: item for item in dataclasses.fields(section)}
    for name in value:
        if name not in fields:
            raise RecipeError(f"unknown key {prefix}{str(name)[:MAX_SHOWN_CHARACTERS]}{suggestion(name, fields)}")
    for name, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise RecipeError(f"key {prefix}{name} is missing")
    checked = {
        name: _check(content, hints[name], prefix + name, fields[name].metadata) for name, content in value.items()
    }
    return section(**checked)


def _check_plain(value: Any, key: str, outermost: bool = True) -> Any:
    """A mapping of what numbers, text, lists and mappings make up; YAML also knows dates, which no checkpoint holds."""
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _check_plain(item, f"{key}.{name}", False) for name, item in value.items()}
    if outermost or isinstance(value, dict):
        raise RecipeError(f"{key} must hold keys with values, got {_shown(value)}")
    if isinstance(value, list):
        return [_check_plain(item, f"{key}.{number}", False) for number, item in enumerate(value)]
    is_plain = (
        value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    )
    if not is_plain:
        raise RecipeError(f"{key} must be a number, text, a list or keys with values, got {_shown(value)}")
    return value


def _check_scalar(value: Any, expected: type, key: str, limits: Mapping[str, Any]) -> Any:
    if expected is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    if expected is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 (no dot) as text; everybody writes learning rates so.
        try:
            value = float(value)
        except ValueError:
            pass
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= sys.float_info.max else math.inf  # which no range holds
    if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
        raise RecipeError(f"{key} must be {_words(expected)}, got {_shown(value)}")
    low, high = limits.get("low"), limits.get("high")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not _within(value, low, high):
        asked = f"at least {low}" if high is None else f"from {low} to {high}"
        raise RecipeError(f"{key} must be {asked}, got {_shown(value)}")
    return value


def _within(value: float, low: float | None, high: float | None) -> bool:
    is_number = isinstance(value, int) or math.isfinite(value)
    return is_number and (low is None or value >= low) and (high is None or value <= high)


def _shown(value: Any) -> str:
    """A value as an error shows it; of a long one its beginning."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."


def _words(expected: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}[expected]


def suggestion(name: object, valid: typing.Iterable[object]) -> str:
    """The end of a sentence that refuses a name: the nearest valid one, or all of them."""
    names = [str(item) for item in valid]
    matches = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; valid are {', '.join(names)}"
