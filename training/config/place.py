"""A place in a recipe, found by the location that pydantic gives an error, with what the JSON schema says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A place in a recipe.

    Attributes:
        key: Dotted path of the key; empty for the recipe itself.
        schema: JSON schema of the value.
        section: JSON schema of the section that holds the key.
        siblings: JSON schemas of all sections that can stand in the place of `section`, by their kind.
        definitions: The `$defs` that the schemas refer to.
    """

    key: str
    schema: Schema
    section: Schema
    siblings: Mapping[str, Schema]
    definitions: Schema

    @classmethod
    def of(cls, location: tuple[int | str, ...], root: Schema, content: Any) -> Place:
        """Follow a location through the content of a recipe and its JSON schema.

        A location also names the kind of each section on the way, and other choices of pydantic; they are not keys.
        """
        definitions = root.get("$defs", {})
        keys: list[str] = []
        schema = section = root
        siblings: dict[str, Schema] = {}
        chosen_from: dict[str, Schema] = {}
        for step in location:
            schema = without_null(schema, definitions)
            kinds = kinds_of(schema, definitions)
            if step in kinds:
                schema, chosen_from = kinds[str(step)], kinds
            elif _is_key(step, content, schema):
                keys.append(str(step))
                section, siblings, chosen_from = schema, chosen_from, {}
                schema, content = _schema_at(step, schema), _value_at(step, content)
        return cls(".".join(keys), without_null(schema, definitions), section, siblings, definitions)

    @property
    def allowed(self) -> list[str]:
        """The values that may stand here, as text."""
        return [str(value) for value in self.schema.get("enum", [self.schema.get("const")])]

    @property
    def range(self) -> str:
        """The numbers that may stand here, in words."""
        return range_of(self.schema) or "a finite number"


def range_of(schema: Schema) -> str:
    """Return the numbers that a JSON schema allows, in words; empty without bounds."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"from {_number(low)} to {_number(high)}"
    bounds = {"at least": low, "above": above, "at most": high, "below": below}
    return " and ".join(f"{words} {_number(bound)}" for words, bound in bounds.items() if bound is not None)


def kinds_of(schema: Schema, definitions: Schema) -> dict[str, Schema]:
    """Return the sections among which a JSON schema chooses by their `kind`; empty where it does not."""
    mapping = schema.get("discriminator", {}).get("mapping", {})
    return {kind: resolved({"$ref": reference}, definitions) for kind, reference in mapping.items()}


def resolved(schema: Schema, definitions: Schema) -> Schema:
    """Return a JSON schema itself, or the one that it refers to."""
    found: Schema = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def without_null(schema: Schema, definitions: Schema) -> Schema:
    """Return the JSON schema of a value that is not null, references followed."""
    schema = resolved(schema, definitions)
    others = [choice for choice in choices(schema) if choice.get("type") != "null"]
    return resolved(others[0], definitions) if len(others) == 1 else schema


def choices(schema: Schema) -> list[Schema]:
    """Return the JSON schemas that a value may have; the schema itself where there is one."""
    return list(schema.get("anyOf") or schema.get("oneOf") or [schema])


def _is_key(step: int | str, content: Any, schema: Schema) -> bool:
    if isinstance(content, (list, tuple)):
        return isinstance(step, int)
    return isinstance(content, dict) and (step in content or step in schema.get("properties", {}))


def _value_at(step: Any, content: Any) -> Any:
    return content.get(step) if isinstance(content, dict) else content[step]


def _schema_at(step: int | str, schema: Schema) -> Schema:
    if isinstance(step, int):
        return next((choice["items"] for choice in choices(schema) if "items" in choice), {})
    of_any_key = schema.get("additionalProperties")  # a mapping with names of the user
    found: Schema = schema.get("properties", {}).get(step, of_any_key if isinstance(of_any_key, dict) else {})
    return found


def _number(value: float) -> str:
    """Write a bound of a range: whole numbers in full, others as short as possible."""
    return str(int(value)) if value == int(value) else f"{value:g}"
