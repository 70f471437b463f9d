"""Test plots: values are where the axes say, and an SVG element takes its colours from the page around it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ros_kd_perception.drawing import plots
from ros_kd_perception.drawing.plots import Series

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def texts(svg: str, tag: str = "text") -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(SVG + tag)]


def test_dots_lie_where_their_values_are_and_events_at_their_times(axes: Axes) -> None:
    plots.scatter(axes, [Series("a", "C0", [(0, 3), (10, 50)])], "s", "ms", {"lost": [4, 5]})
    dots, strokes = axes.lines
    np.testing.assert_array_equal(dots.get_xydata(), [(0, 3), (10, 50)])
    assert list(strokes.get_xdata()) == [4, 5]
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 50
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("s", "ms")


def test_axes_start_at_zero(axes: Axes) -> None:
    plots.lines(axes, [Series("a", "C0", [(3, 7), (4, 8)]), Series("b", "C1", [])], "s", "Hz")
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [(3, 7), (4, 8)])
    assert (axes.get_xlim()[0], axes.get_ylim()[0]) == (0, 0)


def test_bars_of_a_histogram_are_as_high_as_their_counts(axes: Axes) -> None:
    plots.histogram(axes, [1.0, 1.1, 1.2, 9.0], {"p50": 1.15}, "ms", bins=4)
    assert [bar.get_height() for bar in axes.patches] == [3, 0, 0, 1]
    assert [text.get_text() for text in axes.texts] == ["p50 1.1"]
    assert axes.lines[0].get_xdata()[0] == 1.15


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(0.01, 1e6), min_size=1, max_size=50))
def test_a_histogram_counts_every_value(values: list[float]) -> None:
    axes = Figure().subplots()
    plots.histogram(axes, values, {}, "ms")
    assert sum(bar.get_height() for bar in axes.patches) == len(values)


def test_rows_are_in_the_order_of_their_names(axes: Axes) -> None:
    plots.bars(axes, {"replaced": 3, "lost": 1})
    assert [bar.get_width() for bar in axes.patches] == [3, 1]
    assert [text.get_text() for text in axes.texts] == ["3", "1"]
    assert axes.yaxis_inverted()


def test_shares_are_drawn_side_by_side(axes: Axes) -> None:
    plots.shares(axes, {"front": {"road": 0.75, "sky": 0.25}}, {"road": "#804080", "sky": "#4682b4"})
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 0.75), (0.75, 0.25)]
    assert axes.get_xlim() == (0, 1)


def draw(axes: Axes) -> None:
    plots.scatter(axes, [Series("a", "C1", [(0, 1), (1, 2)]), Series("b", "#123456", [(1, 1)])], "x", "y", {"a<b": [1]})


def test_a_page_sets_the_colours_and_shows_texts_at_the_pointer() -> None:
    svg = plots.page_svg(draw, "y & x")
    root = ElementTree.fromstring(svg)
    styles = [use.get("style", "") for use in root.iter(f"{SVG}use")]
    assert sum("var(--series-1)" in style for style in styles) == 2
    assert sum("#123456" in style for style in styles) == 1
    assert sum("var(--series-4)" in style for style in styles) == 1
    assert "var(--soft)" in svg
    assert "var(--line)" in svg
    assert "#fe00" not in svg
    assert (root.tag, root.get("viewBox"), root.get("width")) == (f"{SVG}svg", "0 0 880 260", None)
    assert root.get("aria-label") == "y & x"
    assert texts(svg, "title") == ["a<b"]
    assert {"x", "y"} <= set(texts(svg))


def test_drawings_of_one_page_refer_only_to_their_own_parts() -> None:
    page = "".join(plots.page_svg(draw, description) for description in ("first", "second"))
    names = re.findall(r' id="([^"]+)"', page)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used
    assert used <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "draw_nothing",
    [
        lambda axes: plots.scatter(axes, [Series("a", "C0", [])], "x", "y", {}),
        lambda axes: plots.lines(axes, [], "x", "y"),
        lambda axes: plots.shares(axes, {}, {}),
        lambda axes: plots.histogram(axes, [5.0], {"p50": 5.0}, "x"),
        lambda axes: plots.histogram(axes, [0.0], {"p50": 0.0}, "x"),
    ],
)
def test_few_and_no_values_can_be_drawn(draw_nothing: Any) -> None:
    assert ElementTree.fromstring(plots.page_svg(draw_nothing, "nothing", 62)).get("viewBox") == "0 0 880 62"


def test_plots_of_a_document_are_below_their_titles() -> None:
    svg = plots.document_svg({"ages & more": draw, "rates": draw})
    titles = [text for text in texts(svg) if text in ("ages & more", "rates")]
    assert titles == ["ages & more", "rates"]
    assert "var(" not in svg
    assert 'viewBox="0 0 880 520"' in svg


def test_the_same_values_give_the_same_bytes() -> None:
    assert plots.page_svg(draw, "y") == plots.page_svg(draw, "y")


def test_without_matplotlib_the_error_names_what_to_install(tmp_path: Path) -> None:
    script = "import sys; sys.modules['matplotlib'] = None; import ros_kd_perception.drawing.plots"
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert outcome.returncode == 1
    assert "MissingPackage: expected Matplotlib, which draws the plots, found none; install " in outcome.stderr
