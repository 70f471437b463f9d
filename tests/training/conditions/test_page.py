"""Test that docs/conditions.md lists each condition with its values and its source."""

from __future__ import annotations

import pytest
from checkout import ROOT

from training.conditions.condition import Condition
from training.conditions.rendered import RENDERED_CONDITIONS
from training.conditions.table import CONDITIONS

PAGE = (ROOT / "docs" / "conditions.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("condition", [*CONDITIONS, *RENDERED_CONDITIONS], ids=lambda condition: condition.name)
def test_the_page_has_its_row(condition: Condition) -> None:
    values = ", ".join(f"{value:g}" for value in condition.values)
    words = condition.words.removeprefix("rendered: ")
    row = f"| `{condition.name}` | {condition.family} | {words} | {condition.parameter}: {values} |"
    assert row in PAGE, f"write this row, and its source, into docs/conditions.md:\n{row}"
