"""One plain sentence for what pydantic found wrong: the key, what was expected, what came, and often what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

from training.config.place import Place, kinds_of

MAX_SHOWN_CHARACTERS = 120
_SECTION = "must hold keys with values"
_SENTENCES = {
    "bool_type": "must be true or false",
    "dict_type": _SECTION,
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "invalid-json-value": "must be a number, text, a list or keys with values",
    "is_instance_of": "must be a path",
    "model_attributes_type": _SECTION,
    "model_type": _SECTION,
    "string_type": "must be text",
    "tuple_type": "must be a list",
}
_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")  # invalid_key: not text, for example 5 or true
_LENGTHS = {
    "too_short": ("at least", "min_length", "entry", "entries"),
    "too_long": ("at most", "max_length", "entry", "entries"),
    "string_too_short": ("at least", "min_length", "character", "characters"),
    "string_too_long": ("at most", "max_length", "character", "characters"),
}
_OUT_OF_RANGE = ("finite_number", "greater_than_equal", "less_than_equal", "greater_than", "less_than")


def sentence_about(error: pydantic.ValidationError, model: type[pydantic.BaseModel], content: Any) -> str:
    """Return a sentence about the first mistake in a model's content; unknown keys come first."""
    found = error.errors(include_url=False)
    first = next((one for one in found if one["type"] in _UNKNOWN_KEY), found[0])
    kind, value = first["type"], first["input"]
    if kind == "value_error":
        return str(first["ctx"]["error"])
    schema = model.model_json_schema()
    if kind == "invalid_key":
        section = Place.of(first["loc"][:-1], schema, content)
        return _unknown_name(section.key, value, section.schema["properties"])
    place = Place.of(first["loc"], schema, content)
    if kind == "extra_forbidden":
        return _unknown_key(place)
    if kind == "missing":
        return f"key {place.key} is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_kind(place, value)
    return f"{place.key or 'the recipe'} {_expectation(place, first)}"


def shown(value: Any) -> str:
    """Write a value as an error shows it, cut off where it is long; a tuple came from a list."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."


def suggestion(name: object, valid: Iterable[object]) -> str:
    """Return the end of a sentence that refuses a name: the nearest valid one, or all of them."""
    names = [str(item) for item in valid]
    matches = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; valid are {', '.join(names)}"


def _expectation(place: Place, error: Mapping[str, Any]) -> str:
    """Return what was expected of a value, and what came."""
    kind, value = error["type"], error["input"]
    if kind == "literal_error":
        names = place.allowed
        return f"must be one of {', '.join(names)}, got {shown(value)}{suggestion(value, names)}"
    if error["loc"][-1:] == ("[key]",):
        return f"is a key, which must be text, got {shown(value)}; put it in quotes"
    is_too_large = kind == "float_type" and isinstance(value, int) and not isinstance(value, bool)
    if kind in _OUT_OF_RANGE or is_too_large:
        return f"must be {place.range}, got {shown(value)}"
    if kind in _LENGTHS:
        limit, name, one, several = _LENGTHS[kind]
        count = error["ctx"][name]
        return f"must have {limit} {count} {one if count == 1 else several}, got {shown(value)}"
    if kind == "string_pattern_mismatch":
        return f"must match the pattern {error['ctx']['pattern']}, got {shown(value)}"
    return f"{_SENTENCES.get(kind) or error['msg']}, got {shown(value)}"


def _unknown_key(place: Place) -> str:
    section, _, name = place.key.rpartition(".")
    having = [kind for kind, sibling in place.siblings.items() if name in sibling["properties"]]
    if having:
        kind = place.section["properties"]["kind"]["const"]
        return f"{place.key} does not apply to kind {kind}, only to {', '.join(having)}; remove it from {section}"
    return _unknown_name(section, name, place.section["properties"])


def _unknown_name(section: str, name: object, valid: Iterable[object]) -> str:
    key = f"{section}.{name}" if section else str(name)
    return f"unknown key {key[:MAX_SHOWN_CHARACTERS]}{suggestion(name, valid)}"


def _unknown_kind(place: Place, section: Any) -> str:
    kinds = kinds_of(place.schema, place.definitions)
    if "kind" not in section:
        valid = list(dict.fromkeys(name for one in kinds.values() for name in one["properties"]))
        unknown = [name for name in section if name not in valid]
        if unknown:
            return _unknown_name(place.key, unknown[0], valid)
        return f"key {place.key}.kind is missing; valid are {', '.join(kinds)}"
    kind = section["kind"]
    return f"{place.key}.kind must be one of {', '.join(kinds)}, got {shown(kind)}{suggestion(kind, kinds)}"
