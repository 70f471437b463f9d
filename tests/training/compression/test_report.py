"""Write the report of measured files, and read it back as a browser, a program and an image viewer do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from html_page import Page

from training.compression.figures import Figures
from training.compression.report import write_report
from training.compression.stage import Stage

# Names come from recipes of others. Matplotlib reads $...$ as mathematics, string.Template $name as a variable.
STRANGE = "<script>alert(1)</script> $x_{$ &amp; <img src=http://a.example/b.png onerror=alert(2)>"
STAGE = Stage("quantise", None, Path("s.onnx"), ("prune", STRANGE), "", {STRANGE: f"layer  channels\n{STRANGE}"})


@pytest.fixture(scope="module")
def renamed(figures: Figures) -> Figures:
    """Figures with a row and a set of frames of a strange name; the last file does segmentation alone."""
    rows = []
    for row, name in zip(figures.rows, ("parent", STRANGE, "quantise"), strict=True):
        scores = row.scores["val"]
        if name == "quantise":
            scores = replace(scores, means={"miou": scores.means["miou"]}, ap={}, ap50={})
        rows.append(replace(row, name=name, scores={STRANGE: scores}))
    return replace(figures, rows=tuple(rows), frames={STRANGE: figures.frames["val"]})


def test_the_page_needs_no_network_and_shows_names_as_they_are(renamed: Figures, tmp_path: Path) -> None:
    write_report(tmp_path, STRANGE, renamed, STAGE, [f"loses {STRANGE}"])

    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "base", "form"}
    assert {"svg", "table", "pre", "h1"} <= page.tags
    for name, value in page.attributes:
        assert not name.startswith("on"), name
        assert not value.startswith(("http", "//", "javascript")) or name.startswith("xmlns"), value
    assert "@import" not in text
    assert "url(http" not in text
    assert "prefers-color-scheme: dark" in text
    assert STRANGE in "".join(page.words)
    assert "Not written: it loses" in "".join(page.words)


def test_verdict_and_table_name_what_was_gained_and_lost(figures: Figures, tmp_path: Path) -> None:
    text = write_report(tmp_path, "chain", figures, STAGE, [])

    lost = figures.row("dim").scores["val"].means["miou"]
    assert lost.value is not None
    assert lost.difference is not None
    assert f"mIoU on val: {100 * lost.difference.value:+.2f}" in text
    assert "points, worse." in text
    assert text.count("\n| ") == 1 + len(figures.rows)
    assert "12 frames of frames" in text
    assert "CPUExecutionProvider, 1 thread, median" in text
    words = " ".join(Page((tmp_path / "report.html").read_text(encoding="utf-8")).words)
    assert "Within the budget" in words
    for name in ("parent", "same", "dim", "pedestrian", "within the noise", figures.row("dim").sha256[:12]):
        assert name in words


def test_the_json_has_every_figure_and_the_picture_can_be_read(figures: Figures, tmp_path: Path) -> None:
    write_report(tmp_path, "chain", figures, STAGE, ["loses much"])

    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["beyond_budget"] == ["loses much"]
    assert content["steps"] == list(STAGE.said)
    figure = figures.row("dim").scores["val"].iou["road"]
    assert content["rows"][2]["scores"]["val"]["iou"]["road"]["value"] == figure.value
    assert content["rows"][2]["latency"]["median_ms"] == figures.row("dim").latency.median_ms
    picture = cv2.imread(str(tmp_path / "report.png"))
    assert picture is not None
    assert picture.std() > 5
