"""Test shares of the clean score: against counts by hand, and for classes and frames that yield none."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from made_records import made_records

from training.conditions.condition import FrameCondition
from training.conditions.curves import curves_png
from training.conditions.figures import MeasuredCondition, NetworkFigures, Robustness, network_figures
from training.conditions.table import CONDITIONS
from training.conditions.wording import halved_at, text_of, verdict
from training.evaluation.bootstrap import RESAMPLES
from training.evaluation.box_matching import IOU_THRESHOLDS
from training.evaluation.frame_records import FrameRecords

FOG, ROLL = (next(each for each in CONDITIONS if each.name == name) for name in ("fog", "roll"))
FRAMES = 8


def records(right: Sequence[int], boxes: int = 0, hits: int = 0) -> FrameRecords:
    """Return frames of 100 pixels of each class, of which some are right and the others outside of all classes.

    Args:
        right: Right pixels of each class; -1 for a class that no pixel has.
        boxes: Number of true boxes in each frame.
        hits: Number of them that are found.
    """
    classes = len(right)
    confusion = np.zeros((FRAMES, classes, classes + 1), np.int32)
    for label, pixels in enumerate(right):
        if pixels >= 0:
            confusion[:, label, label], confusion[:, label, -1] = pixels, 100 - pixels
    found = FRAMES * hits
    return made_records(
        FRAMES,
        [f"m{label}" for label in range(classes)],
        ["b"],
        found,
        confusion=confusion,
        true_boxes=np.full((FRAMES, 1), boxes, np.int32),
        frame=np.repeat(np.arange(FRAMES, dtype=np.int32), hits),
        score=np.full(found, 0.9),
        hits=np.ones((len(IOU_THRESHOLDS), found), np.bool_),
    )


def figures_of(
    clean: FrameRecords, changed: Sequence[FrameRecords], condition: FrameCondition = FOG, frames: str = "data"
) -> NetworkFigures:
    measured = MeasuredCondition(condition, frames, clean, dict(enumerate(changed, start=1)))
    return network_figures("n", "n.onnx", "0", [measured])


def test_the_share_is_that_of_the_clean_score() -> None:
    found = figures_of(records([80, 60]), [records([80, 60]), records([40, 60]), records([0, 14])])
    curve = found.conditions[0].curves["miou"]
    assert [figure.value for figure in curve.scores] == pytest.approx([0.7, 0.7, 0.5, 0.07])
    assert [figure.value for figure in curve.kept] == pytest.approx([1, 5 / 7, 0.1])
    assert curve.robustness.value == pytest.approx((1 + 5 / 7 + 0.1) / 3)
    assert curve.classes == {"m0": pytest.approx((0.8, 0.8, 0.4, 0)), "m1": pytest.approx((0.6, 0.6, 0.6, 0.14))}
    assert halved_at(found.conditions[0], curve) == 3
    assert curve.scores[0].difference is None
    difference = curve.scores[2].difference
    assert difference is not None
    assert (difference.value, difference.verdict) == (pytest.approx(-0.2), "worse")


def test_a_class_that_leaves_the_picture_counts_in_neither() -> None:
    found = figures_of(records([80, 20]), [records([40, -1])])
    curve = found.conditions[0].curves["miou"]
    assert curve.kept[0].value == pytest.approx(0.5)
    assert curve.classes["m1"] == (pytest.approx(0.2), None)


def test_a_class_that_leaves_the_picture_counts_in_neither_though_a_pixel_is_taken_for_it() -> None:
    changed = records([40, -1])
    changed.confusion[:, 0, 1], changed.confusion[:, 0, -1] = 1, 59
    found = figures_of(records([80, 20]), [changed])
    curve = found.conditions[0].curves["miou"]
    assert curve.kept[0].value == pytest.approx(0.5)
    assert curve.scores[1].value == pytest.approx(0.2)  # the score itself is that of evaluate, and has the class


def test_boxes_have_a_curve_of_their_own() -> None:
    found = figures_of(records([50], boxes=2, hits=2), [records([50], boxes=2, hits=1), records([50], boxes=2)])
    curve = found.conditions[0].curves["ap50"]
    assert [figure.value for figure in curve.kept] == pytest.approx([51 / 101, 0])
    assert set(found.conditions[0].curves) == {"miou", "ap50"}
    assert set(figures_of(records([50]), [records([50])]).conditions[0].curves) == {"miou"}


def test_what_is_wrong_on_clean_frames_keeps_no_share() -> None:
    found = figures_of(records([0, 0]), [records([0, 10])])
    assert found.overall["miou"].value is None
    assert verdict(found) == ["The labels of these frames yield no score on clean frames."]


def test_families_and_all_are_means_of_conditions() -> None:
    clean = records([100])
    measured = [
        MeasuredCondition(FOG, "data", clean, {1: records([50])}),
        MeasuredCondition(ROLL, "data", clean, {1: records([100])}),
    ]
    found = network_figures("n", "n.onnx", "0", measured)
    assert {family: means["miou"].value for family, means in found.families.items()} == {"weather": 0.5, "viewpoint": 1}
    assert found.overall["miou"].value == 0.75


def test_sets_of_frames_are_resampled_apart() -> None:
    """What one set loses on a frame must not make up for what another set keeps on the frame of the same number."""
    clean = records([100])
    rising, falling = records([100]), records([100])
    for frame in range(FRAMES):
        for changed, right in ((rising, 10 * frame), (falling, 10 * (FRAMES - 1 - frame))):
            changed.confusion[frame, 0] = right, 100 - right
    measured = [
        MeasuredCondition(FOG, "data", clean, {1: rising}),
        MeasuredCondition(ROLL, "rendered", clean, {1: falling}),
    ]
    overall = network_figures("n", "n.onnx", "0", measured).overall["miou"]
    assert overall.value == pytest.approx(0.35)
    assert overall.low is not None
    assert overall.high is not None
    assert overall.low < 0.3
    assert overall.high > 0.4


def test_the_text_says_what_suffers_and_json_has_all_of_it() -> None:
    clean = records([100], boxes=1, hits=1)
    measured = [
        MeasuredCondition(FOG, "data", clean, {1: records([90], 1, 1), 2: records([20], 1, 0)}),
        MeasuredCondition(ROLL, "data", clean, {1: records([100], 1, 1), 2: records([99], 1, 1)}),
    ]
    rows = [network_figures(name, f"{name}.onnx", "0", measured) for name in ("one", "two $x$")]
    robustness = Robustness(tuple(rows), {"data": "8 frames of val"}, (), RESAMPLES)

    said = text_of(robustness)

    assert "mIoU suffers most in fog (55 %), roll (100 %)." in said
    assert "mIoU falls below half of clean in fog from severity 2." in said
    assert "fog  100.00  90.00  20.00   55.00 (55.00 .. 55.00)" in said
    assert "two $x$: mIoU keeps 77.25 (77.25 .. 77.25) %: weather 55 %, viewpoint 100 %" in said
    written = json.loads(json.dumps(robustness.to_json(), allow_nan=False))
    assert written["networks"][0]["conditions"][0]["curves"]["miou"]["robustness"]["value"] == pytest.approx(0.55)
    assert curves_png(robustness).startswith(b"\x89PNG")
