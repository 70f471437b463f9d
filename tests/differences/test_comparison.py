"""Test what a comparison keeps: figures of all frames, and the worst moments only."""

from __future__ import annotations

import argparse
import json
from io import StringIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seen_frames import CLASSES, HEIGHT, PERIOD_NS, WIDTH, boxes, pair

from ros_kd_perception.differences.comparison import Comparison, Side
from ros_kd_perception.differences.figures import OLD
from ros_kd_perception.differences.figures_json import document_of, write_json
from ros_kd_perception.differences.limits import LIMITS, add_limit_options, beyond, judge, percent
from ros_kd_perception.differences.moments import APART_NS
from ros_kd_perception.differences.verdict import Verdict
from ros_kd_perception.drawing.overlay_video import resized_perception
from ros_kd_perception.structures import Perception, Timing

PIXELS = HEIGHT * WIDTH
ONE = boxes((1, 1, 9, 9, 0.9, 0))
NONE = boxes()


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_limit_options(parser)
    return parser.parse_args(arguments)


def broken(comparison: Comparison, *arguments: str) -> set[str]:
    return {one.limit.option for one in beyond(judge(comparison.figures, options(*arguments)))}


@given(changes=st.lists(st.integers(0, PIXELS), min_size=1, max_size=30), worst=st.integers(0, 5))
def test_the_worst_moments_are_few_apart_and_not_better_than_the_others(changes: list[int], worst: int) -> None:
    comparison = Comparison(CLASSES, worst)
    for number, changed_px in enumerate(changes):
        comparison.add(pair(number, changed_px))
    chosen = comparison.worst.chosen()
    assert len(chosen) <= worst
    times = sorted(moment.row.position_ns for moment in chosen)
    assert all(later - earlier >= APART_NS for earlier, later in pairwise(times))
    if worst and max(changes):
        assert chosen[0].row.changed_share == max(changes) / PIXELS
    assert all(moment.row.changed_share for moment in chosen)
    assert comparison.figures.total.changed_share == pytest.approx(sum(changes) / PIXELS / len(changes))


def test_moments_of_masks_and_of_boxes_take_turns() -> None:
    comparison = Comparison(CLASSES, 3)
    lost = {0: 0, 20: 1, 40: 3}
    for number, count in lost.items():
        rows = boxes(*((10 * index, 1, 10 * index + 8, 9, 0.9, 0) for index in range(count)))
        comparison.add(pair(number, 10 * (50 - number), rows, NONE))
    numbers = [moment.row.position_ns // PERIOD_NS for moment in comparison.worst.chosen()]
    assert numbers == [0, 40, 20]
    first, second, _ = comparison.worst.chosen()
    assert "62.5 % of the pixels changed: road to pavement 62.5 %" in first.sentences
    assert second.sentences[1] == "lost: car 0.90, car 0.90, car 0.90"
    assert [box["class"] for box in second.lost] == ["car"] * 3


@pytest.mark.parametrize(
    ("option", "frames"),
    [
        ("--max-changed-pixels", [pair(0, PIXELS // 10)]),
        ("--max-changed-pixels-of-a-frame", [*(pair(number) for number in range(9)), pair(9, PIXELS // 5)]),
        ("--min-class-iou", [pair(0, PIXELS // 20)]),  # class 4 has 5 % on the new side and none on the old one
        ("--max-lost-boxes", [pair(0, 0, ONE, NONE)]),
        ("--max-new-boxes", [pair(0, 0, NONE, ONE)]),
        ("--min-box-iou", [pair(0, 0, ONE, boxes((3, 1, 11, 9, 0.9, 0)))]),
        ("--max-score-change", [pair(0, 0, ONE, boxes((1, 1, 9, 9, 0.6, 0)))]),
    ],
)
def test_each_limit_finds_its_fault_and_can_be_widened(option: str, frames: list[object]) -> None:
    comparison = Comparison(CLASSES, 0)
    for frame in frames:
        comparison.add(frame)  # type: ignore[arg-type]
    assert option in broken(comparison)
    assert option not in broken(comparison, option, "0" if option.startswith("--min") else "1")


def test_limits_of_frames_and_pixels_that_are_not_compared() -> None:
    comparison = Comparison(CLASSES, 0)
    comparison.add(pair(0))
    comparison.figures.add_one_sided(OLD, "front", 7)
    assert broken(comparison) == {"--max-one-sided-frames"}
    assert comparison.figures.cameras["front"].one_sided_share == 0.5
    comparison.figures.total.left_out_px = 2 * PIXELS
    assert broken(comparison, "--max-one-sided-frames", "0.5") == {"--max-left-out-pixels"}


def test_nothing_that_could_not_be_measured_breaks_a_limit() -> None:
    comparison = Comparison(CLASSES, 0)
    comparison.add(pair(0, 0, NONE, NONE))
    strict = [word for one in LIMITS for word in (one.option, "0" if one.is_most else "1")]
    assert broken(comparison, *strict) == set()
    judged = {one.limit.option: one.measured.value for one in judge(comparison.figures, options())}
    assert judged["--min-box-iou"] is None
    assert judged["--max-changed-pixels"] == 0


@pytest.mark.parametrize("text", ["-0.1", "1.5", "nan", "many"])
def test_a_limit_is_a_share(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--max-lost-boxes", text)
    assert "expected a share from 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "not measured"), (0.0, "0 %"), (1.0, "100 %"), (0.02, "2 %"), (0.0123, "1.23 %"), (0.456, "45.6 %")],
)
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_json_has_every_frame_and_is_json_without_a_frame_of_masks() -> None:
    comparison = Comparison(CLASSES, 0)
    comparison.add(pair(0, 5))
    comparison.add(pair(1, 0, ONE, NONE))
    sides = (Side("a", {}), Side("b", {"file": "b"}))
    judged = judge(comparison.figures, options())
    verdict = Verdict.of(comparison.figures, judged, ["a note"])
    text = StringIO()
    write_json(text, document_of(comparison.figures, verdict, judged, sides, {}), comparison.figures)
    found = json.loads(text.getvalue())
    assert [frame["lost"] for frame in found["frames"]] == [0, 1]
    assert [frame["changed_pixels"] for frame in found["frames"]] == [5 / PIXELS, 0]
    assert found["total"]["masks"]["classes"]["road"]["mostly_became"] == "pavement"
    assert found["total"]["masks"]["classes"]["sky"]["iou"] is None
    assert np.sum(found["total"]["masks"]["pixels_by_class"]) == 2 * PIXELS
    assert found["verdict"]["sentences"][-1] == "A note."


@given(old=st.tuples(st.integers(1, 250), st.integers(1, 250)), new=st.tuples(st.integers(1, 400), st.integers(1, 400)))
def test_a_mask_of_another_size_does_not_move(old: tuple[int, int], new: tuple[int, int]) -> None:
    for axis in (0, 1):
        numbers = np.arange(old[axis], dtype=np.uint8)
        mask = np.ascontiguousarray(np.broadcast_to(numbers[:, None] if axis == 0 else numbers, old))
        seen = Perception("front", 0, "", mask, None, None, Timing(0.0, 0.0, 0.0))
        resized = resized_perception(seen, old, new).require_class_map()
        assert resized.shape == new
        taken = np.moveaxis(resized, axis, 0)
        assert (taken == taken[:, :1]).all()
        # The centre of each new pixel lies in the old pixel that it takes, or on its edge.
        off = (taken[:, 0] + 0.5) / old[axis] - (np.arange(new[axis]) + 0.5) / new[axis]
        assert np.abs(off).max() <= 0.5 / old[axis] + 1e-9
