"""The reference page of recipes: every section with its keys, from the docstrings and ranges of the settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from training.compare.recipe import ComparisonRecipe
from training.compression.recipe import CompressionRecipe
from training.config.place import Schema, choices, kinds_of, range_of, resolved
from training.config.settings import Settings
from training.recipe import Recipe
from training.report.recipe import ReportRecipe
from training.schema.json_schema import schema_of

INTRODUCTION = """# Recipe reference

Every key of the files in `training/recipes/`, `training/comparisons/` and `training/compressions/`.
`python -m training schema --update` writes this page from the code. [training.md](training.md) tells how recipes are
used, and [compression.md](compression.md) tells of chains of compression.

A path such as `data.train` names a key of a section; `--override data.train.0.folder=frames` changes one. Keys without
a default are required. An unknown key is refused, and so is a key that the `kind` of its section does not have.
"""
_WORDS = {"boolean": "true or false", "integer": "whole number", "number": "number", "string": "text", "null": "null"}


def reference_page() -> str:
    """Return the page as Markdown."""
    described: dict[str, tuple[str, str]] = {}
    chapters: dict[str, type[Settings]] = {
        "Recipe": Recipe,
        "Comparison": ComparisonRecipe,
        "Compression": CompressionRecipe,
        "Report": ReportRecipe,
    }
    lines = [line for title, root in chapters.items() for line in (f"## {title}\n", *_chapter(title, root, described))]
    return "\n".join([INTRODUCTION, *lines])


def _chapter(title: str, root: type[Settings], described: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yield the sections of a file, each once, headed by the paths that hold it.

    Args:
        title: Title of the chapter.
        root: The settings of the file.
        described: First path of the sections that earlier chapters describe, and the title of the chapter, by their
            schema; those of this chapter are added.
    """
    schema = schema_of(root)
    definitions = schema.get("$defs", {})
    paths: dict[str, list[str]] = {}
    sections: dict[str, Schema] = {}
    waiting: list[tuple[str, Schema]] = [("", schema)]
    while waiting:
        path, section = waiting.pop(0)
        name = json.dumps(section, sort_keys=True, allow_nan=False)
        known = paths.setdefault(name, [])
        known += [path] if path not in known else []  # several kinds have it
        if name not in sections:
            sections[name] = section
            waiting += [(f"{path}.{key}".strip("."), one) for key, one in _sections_in(section, definitions)]
    for name, section in sections.items():
        keys = ", ".join(f"`{path}`" for path in paths[name])
        if name in described:
            path, of = described[name]
            yield f"{keys}: the same as `{path}` of a {of.lower()}.\n"
            continue
        if paths[name] != [""]:
            yield f"### {keys}\n"
        yield from _section(section, definitions)
    described |= {name: (paths[name][0], title) for name in sections if name not in described}


def _sections_in(section: Schema, definitions: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the keys that hold sections, with the schema of a section or of the choice among several kinds."""
    for one in kinds_of(section, definitions).values():
        yield from _sections_in(one, definitions)
    for key, value in section.get("properties", {}).items():
        for choice in [value] if kinds_of(value, definitions) else choices(value):
            one = resolved(choice.get("items", choice), definitions)
            if kinds_of(one, definitions):
                yield key, {name: one[name] for name in ("discriminator", "oneOf")}
            elif "properties" in one:
                yield key, one


def _section(section: Schema, definitions: Schema) -> Iterator[str]:
    kinds = kinds_of(section, definitions)
    if not kinds:
        yield from _keys(section, definitions)
    for kind, one in kinds.items():
        yield f"#### `kind: {kind}`\n"
        yield from _keys(one, definitions)


def _keys(section: Schema, definitions: Schema) -> Iterator[str]:
    yield section["description"].partition("\n\n")[0].replace("\n", " ") + "\n"
    rows = {key: value for key, value in section["properties"].items() if key != "kind"}
    if rows:
        yield "| key | value | default | meaning |\n|---|---|---|---|"
        for key, value in rows.items():
            meaning = " ".join(value.get("description", "").split()).replace("|", "\\|")
            default = "required" if key in section.get("required", []) else _default(value)
            yield f"| `{key}` | {_words(value, definitions)} | {default} | {meaning} |"
        yield ""


def _words(value: Schema, definitions: Schema) -> str:
    """Return what may stand in the place of a value."""
    options = choices(value)
    if kinds_of(value, definitions):
        return "section with a `kind`"
    if len(options) > 1:
        return " or ".join(_words(option, definitions) for option in options)
    value = resolved(options[0], definitions)
    if "properties" in value:
        return "section"
    if "enum" in value or "const" in value:
        return ", ".join(f"`{name}`" for name in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of: {_words(value['items'], definitions)}"
    if value.get("type") == "object":
        return "keys with values"
    return f"{_WORDS[value['type']]} {range_of(value)}".strip()


def _default(value: Schema) -> str:
    default: Any = value.get("default", {})
    return (
        "defaults of the section"
        if isinstance(default, dict) and default
        else f"`{json.dumps(default, allow_nan=False)}`"
    )
