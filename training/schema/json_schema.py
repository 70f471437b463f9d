"""JSON schemas of recipes and comparisons, by which editors complete and check them."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from training.config.place import kinds_of
from training.config.settings import Settings

DIALECT = GenerateJsonSchema.schema_dialect


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles of keys: pydantic makes them from the names, and editors would show both."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(section: type[Settings]) -> dict[str, Any]:
    """Return the JSON schema of a section, with a `kind` that must be there wherever it chooses among sections."""
    schema = section.model_json_schema(schema_generator=_WithoutTitles)
    definitions = schema.get("$defs", {})
    for union in _objects_in(schema):
        for section_of_kind in kinds_of(union, definitions).values():
            _require_kind(section_of_kind)
    return {"$schema": DIALECT, **schema}


def _require_kind(section: dict[str, Any]) -> None:
    required = section.setdefault("required", [])
    if "kind" not in required:
        required.append("kind")


def _objects_in(value: Any) -> list[dict[str, Any]]:
    """Return all mappings in a value of JSON, the outer before the inner."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [one for item in inner for one in _objects_in(item)]
    return [value, *found] if isinstance(value, dict) else found
