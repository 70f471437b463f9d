"""The JSON schemas and the reference page are those of the code, and agree with what is accepted and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT

from training.__main__ import main
from training.compare.recipe import ComparisonRecipe
from training.compression.recipe import CompressionRecipe
from training.config.settings import Settings
from training.recipe import Recipe
from training.schema.command import FILES, TEXTS
from training.schema.json_schema import schema_of

RECIPES = sorted((ROOT / "training" / "recipes").glob("*.yaml"))
COMPARISONS = sorted((ROOT / "training" / "comparisons").glob("*.yaml"))
CHAINS = sorted((ROOT / "training" / "compressions").glob("*.yaml"))
CALIBRATIONS = sorted((ROOT / "training" / "calibrations").glob("*.yaml"))


@pytest.mark.parametrize("what", sorted(FILES))
def test_the_files_of_the_checkout_are_what_the_code_says(what: str) -> None:
    assert (ROOT / FILES[what]).read_text(encoding="utf-8") == TEXTS[what](), "run python -m training schema --update"


@pytest.mark.parametrize("path", RECIPES + COMPARISONS + CHAINS + CALIBRATIONS, ids=lambda path: path.stem)
def test_the_first_line_of_every_recipe_names_its_schema_for_editors(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    (what,) = (what for what, file in FILES.items() if (ROOT / file).parent == path.parent)
    assert first == f"# yaml-language-server: $schema={FILES[what].name}"


def sections(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each section in a JSON schema with its path."""
    if isinstance(value, dict):
        if "properties" in value:
            yield path, value
        for key, inner in value.items():
            yield from sections(inner, f"{path}/{key}")


@pytest.mark.parametrize("section", [Recipe, ComparisonRecipe, CompressionRecipe])
def test_editors_mark_unknown_keys_and_choose_a_section_by_its_kind(section: type[Settings]) -> None:
    found = dict(sections(schema_of(section)))
    assert len(found) >= 5
    for path, schema in found.items():
        assert schema["additionalProperties"] is False, path
        if "kind" in schema["properties"]:
            assert "const" in schema["properties"]["kind"], path
            assert "kind" in schema["required"], path


def test_editors_know_ranges_choices_and_what_a_kind_has() -> None:
    schema = schema_of(Recipe)
    keys, readers = schema["properties"], schema["$defs"]
    assert (keys["epochs"]["minimum"], keys["epochs"]["maximum"]) == (1, 1_000_000)
    assert keys["size"]["enum"] == ["n", "s", "m", "l"]
    assert [choice["type"] for choice in keys["initial_weights"]["oneOf"]] == ["string", "array"]
    assert keys["output"]["type"] == "string"
    assert {name for name in ("stride", "box_weight") if name in readers["BagSource"]["properties"]} == {"stride"}


@pytest.mark.parametrize("section", [Recipe, ComparisonRecipe, CompressionRecipe])
def test_every_section_and_key_is_described(section: type[Settings]) -> None:
    for path, schema in sections(schema_of(section)):
        assert schema["description"].strip(), path
        for key, value in schema["properties"].items():
            assert value.get("description", "").endswith("."), f"{path}: {key} needs a docstring that ends with a dot"


def test_the_schema_is_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema_of(Recipe)
    assert main(["schema", "reference", "-o", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == TEXTS["reference"]()
