"""Test the page of a comparison: it is complete, needs no other file, and shows names of others as text."""

from __future__ import annotations

import argparse
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from seen_frames import CLASSES, PERIOD_NS, boxes, pair

from ros_kd_perception.differences.comparison import Comparison, Side
from ros_kd_perception.differences.limits import add_limit_options
from ros_kd_perception.differences.output import OutputFolder, write_result
from ros_kd_perception.differences.result import Result
from ros_kd_perception.differences.timeline_plot import MAX_COLUMNS, Scale, columns_of, timeline_svg
from ros_kd_perception.system.output_paths import OutputPathError

VOID = {"meta", "img", "br"}


class Balance(HTMLParser):
    """Checks that each element ends, and collects where images come from."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def result(title: str = "old.onnx") -> Result:
    comparison = Comparison(CLASSES, 4)
    for number in range(30):
        comparison.add(pair(number, number, boxes((1, 1, 9, 9, 0.9, 0)), boxes(), camera=f"<cam{number % 2}>"))
    parser = argparse.ArgumentParser()
    add_limit_options(parser)
    sides = (Side(title, {"file": title}), Side("new.onnx", {"file": "new.onnx"}))
    return Result.of(comparison, parser.parse_args([]), sides, ["a note"], {"compared": "30 frames"})


def test_the_page_is_whole_and_names_are_text(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out") as folder:
        write_result(folder, result("<script>alert(1)</script>"))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert len(balance.sources) == 4
    assert all(source.startswith("data:image/jpeg;base64,") for source in balance.sources)
    assert "<script" not in page
    assert "<cam0>" not in page
    assert "&lt;cam0&gt;" in page
    assert not re.search(r"https?://|url\(|@import", page)
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)
    for part in ("prefers-color-scheme: dark", "@media print", "Beyond", "--max-lost-boxes", "A note."):
        assert part in page
    assert page.index("verdict") < page.index("<h2>Limits") < page.index("<h2>Worst moments")


@pytest.mark.parametrize("frames", [1, 2, 500])
def test_a_timeline_has_one_column_for_a_moment_and_keeps_the_worst(frames: int) -> None:
    comparison = Comparison(CLASSES, 0)
    for number in range(frames):
        comparison.add(pair(number, 700 if number == frames // 2 else 0))
    rows = comparison.figures.rows
    scale = Scale.of(rows)
    columns = columns_of(rows, scale)
    assert len(columns) == min(frames, MAX_COLUMNS)
    assert min(column.worst or 0 for column in columns) == pytest.approx(1 - 700 / 800)
    svg = ElementTree.fromstring(timeline_svg("front", rows, scale, [(1, rows[frames // 2])]))
    assert svg.findall(".//a[@href='#moment-1']")
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d", svg.find("polyline").get("points", ""))]  # type: ignore[union-attr]
    assert all(0 <= number <= 1100 for number in numbers)


def test_equal_sides_have_a_timeline_too() -> None:
    comparison = Comparison(CLASSES, 0)
    comparison.add(pair(0))
    comparison.add(pair(200))  # after a gap of 20 s, of which a second is shown
    assert comparison.figures.rows[1].position_ns == 10 * PERIOD_NS
    scale = Scale.of(comparison.figures.rows)
    assert (scale.lowest, scale.most_boxes) == (0.99, 1)
    ElementTree.fromstring(timeline_svg("<front>", comparison.figures.rows, scale, []))


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> None:
        with OutputFolder(tmp_path / "new" / "out") as folder:
            (folder.partial / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with OutputFolder(tmp_path / "empty") as folder:
        write_result(folder, result())
    assert (tmp_path / "empty" / "report.html").is_file()
    assert oct((tmp_path / "empty").stat().st_mode) == oct(
        tmp_path.joinpath("made").mkdir() or (tmp_path / "made").stat().st_mode
    )


@pytest.mark.parametrize("taken", ["file", "folder", "link"])
def test_other_things_are_never_replaced(tmp_path: Path, taken: str) -> None:
    path = tmp_path / "out"
    if taken == "file":
        path.write_text("mine")
    elif taken == "folder":
        path.mkdir()
        (path / "mine.txt").touch()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputPathError, match="exists; choose another name, or remove it"):
        OutputFolder(path, replace=True)
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputPathError, match=r"expected to write .*; choose another folder"):
        OutputFolder(tmp_path / "file" / "out")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interrupt_while_an_earlier_comparison_is_replaced_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    before = tmp_path / "out"
    before.mkdir()
    (before / "differences.json").write_text("{}", encoding="utf-8")
    rename, calls = Path.rename, []

    def interrupted(own: Path, target: Path) -> Path:
        calls.append(own)
        if len(calls) == 2:
            raise stop
        return rename(own, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises((KeyboardInterrupt, OutputPathError)), OutputFolder(before, replace=True) as folder:
        (folder.partial / "differences.json").write_text('{"new": 1}', encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (before / "differences.json").read_text(encoding="utf-8") == "{}"
