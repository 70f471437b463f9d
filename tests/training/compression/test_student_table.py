"""Put files side by side in one table: several seeds in a row, and which rows no other beats."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st
from labelled_by_a_file import score_of

from training.compression.student_table import TableRecipe, TableRow, Value, front, write_table
from training.config.loading import load_settings
from training.errors import CheckpointError, RecipeError

FIGURE = "mIoU on val"


def test_a_table_shows_seeds_as_a_range_and_names_the_front(place: Path, tmp_path: Path) -> None:
    same, dim = place / "parent.onnx", place / "dim.onnx"
    rows = {"one": [same], "seeds": [same, dim], "dim": [dim]}

    text = write_table(TableRecipe(rows=rows, scores=(score_of(place / "frames"),), rounds=3), tmp_path, "cpu")

    content = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    one, seeds, lost = (row["accuracy"][FIGURE] for row in content["rows"])
    assert [row["files"] for row in content["rows"]] == [1, 2, 1]
    assert seeds["low"] == pytest.approx(lost["mean"])
    assert seeds["high"] == pytest.approx(one["mean"])
    assert seeds["mean"] == pytest.approx((one["mean"] + lost["mean"]) / 2)
    assert lost["low"] < lost["mean"] < lost["high"]
    assert [row["name"] for row in content["files"]] == ["one", "seeds (1)", "seeds (2)", "dim"]
    assert set(content["fronts"]) == {FIGURE, "AP50 on val"}
    assert f"{FIGURE}: no other row beats {', '.join(content['fronts'][FIGURE])}." in text
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == text
    assert cv2.imread(str(tmp_path / "table.png")) is not None


def test_a_missing_checkpoint_is_named(place: Path, tmp_path: Path) -> None:
    recipe = TableRecipe(rows={"lost": [tmp_path / "lost.ckpt"]}, scores=(score_of(place / "frames"),))

    with pytest.raises(CheckpointError, match=r"lost\.ckpt: expected a checkpoint"):
        write_table(recipe, tmp_path, "cpu")


def test_names_that_would_hide_a_file_are_refused(place: Path, tmp_path: Path) -> None:
    file = place / "parent.onnx"
    recipe = TableRecipe(rows={"n": [file, file], "n (1)": [file]}, scores=(score_of(place / "frames"),))

    with pytest.raises(RecipeError, match=r"'n \(1\)' names two files"):
        write_table(recipe, tmp_path, "cpu")


def row(name: str, latency_ms: float, share: float) -> TableRow:
    return TableRow(
        name, 1, "fp32", 1, 1, 1, Value(latency_ms, latency_ms, latency_ms), 1, {FIGURE: Value(share, share, share)}
    )


def test_the_front_holds_what_no_other_beats() -> None:
    rows = [row("slow", 9, 0.7), row("quick", 3, 0.6), row("beaten", 9, 0.6), row("slower", 10, 0.69)]

    assert front([*rows, row("twin", 3, 0.6)], FIGURE) == ["slow", "quick", "twin"]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_every_row_is_on_the_front_or_beaten_by_one_that_is(points: list[tuple[int, int]]) -> None:
    rows = [row(str(number), latency, share) for number, (latency, share) in enumerate(points)]
    best = [points[int(name)] for name in front(rows, FIGURE)]

    assert best
    for latency, share in points:
        assert any(a <= latency and b >= share for a, b in best)


def test_the_rows_of_the_published_table_are_read() -> None:
    recipe = load_settings(ROOT / "benchmarks" / "compressed_students.yaml", TableRecipe)
    assert len(recipe.rows["n fp32"]) == 3
