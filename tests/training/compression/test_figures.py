"""Measure tiny files in the real runtime on frames whose labels are what the first of them perceives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from labelled_by_a_file import FRAMES, score_of, write_frames
from made_records import made_records
from tiny_student import CONTRACT, HEIGHT, WIDTH, contract_with, write_tiny_model

from ros_kd_perception.model.contract import CONTRACT_KEY, ModelContract
from training.compression.figures import Figures, measure
from training.data.readers.registry import source_of
from training.errors import DataError
from training.evaluation import frame_recorder
from training.evaluation.evaluate import evaluate
from training.evaluation.frame_records import FrameRecords
from training.evaluation.models import open_model
from training.evaluation.score_figures import (
    BETTER,
    NO_INTERVAL,
    NOISE,
    TOO_FEW,
    UNITS_MIN,
    WORSE,
    Difference,
    Figure,
    score_figures,
)


def all_figures(figures: Figures, row: str) -> dict[str, Figure]:
    found = figures.row(row).scores["val"]
    by_class = {f"{kind} {name}": each for kind in ("iou", "ap", "ap50") for name, each in getattr(found, kind).items()}
    return {**found.means, **by_class}


def difference_of(figure: Figure) -> Difference:
    assert figure.difference is not None
    return figure.difference


def ends(interval: Figure | Difference) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_figures_of_all_frames_are_those_of_evaluate(place: Path, figures: Figures) -> None:
    for row, file in (("parent", "parent.onnx"), ("dim", "dim.onnx")):
        model = open_model(place / file, "ema", None, None, 1)
        frames = source_of("rendered", {"folder": place / "frames"})
        expected = evaluate(model, frames.open(frames.mapping_to(model.label_set)))
        found = figures.row(row).scores["val"]
        detection = expected["detection"]

        assert found.frames == FRAMES
        assert found.means["miou"].value == pytest.approx(expected["miou"])
        assert found.means["ap"].value == pytest.approx(detection["ap"])
        assert found.means["ap50"].value == pytest.approx(detection["ap50"])
        assert {name: each.value for name, each in found.iou.items()} == pytest.approx(expected["iou"])
        for name, entry in detection["per_class"].items():
            assert found.ap[name].value == pytest.approx(entry["ap"])
            assert found.ap50[name].value == pytest.approx(entry["ap50"])


def test_a_file_beside_itself_differs_by_exactly_nothing(figures: Figures) -> None:
    for name, figure in all_figures(figures, "same").items():
        if figure.value is not None:
            difference = difference_of(figure)
            assert difference.value == 0, name
            if difference.verdict != NO_INTERVAL:
                assert ends(difference) == (0, 0), name
                assert difference.verdict == NOISE
    assert figures.row("same").scores["val"].agreement == 1
    assert all(figure.difference is None for figure in all_figures(figures, "parent").values())


def test_a_file_that_lost_something_is_worse_beyond_the_noise(figures: Figures) -> None:
    lost = figures.row("dim").scores["val"]

    assert figures.row("parent").scores["val"].means["miou"].value == pytest.approx(1)
    assert 0 < (lost.agreement or 0) < 1
    for figure in (lost.means["miou"], lost.means["ap50"], lost.ap50["pedestrian"]):
        difference = difference_of(figure)
        assert difference.verdict == WORSE
        assert ends(figure)[0] <= (figure.value or 0) <= ends(figure)[1]
        assert ends(difference)[0] <= difference.value <= ends(difference)[1] < 0


def test_a_row_says_what_the_file_is(place: Path, figures: Figures) -> None:
    row = figures.row("dim")

    assert (row.file, row.precision) == ("dim.onnx", "fp32")
    assert row.size_bytes == (place / "dim.onnx").stat().st_size
    assert row.parameters == 3 * 4 * 4
    assert row.multiply_accumulates == 3 * HEIGHT * WIDTH
    assert figures.frames == {"val": f"{FRAMES} frames of frames"}
    assert figures.row("parent").latency.ratio == 1
    assert 0 < row.latency.low_ms <= row.latency.median_ms <= row.latency.high_ms


def test_nothing_is_scored_twice_even_after_a_proof_is_written_into_the_file(
    place: Path, figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> FrameRecords:
        raise AssertionError("a frame was scored again")

    monkeypatch.setattr(frame_recorder, "record", refuse)
    model = onnx.load(place / "dim.onnx")
    contract = ModelContract.from_json({item.key: item.value for item in model.metadata_props}[CONTRACT_KEY])
    proven = replace(contract, derived={"steps": ["darker"]}, version="2")
    for item in model.metadata_props:
        if item.key == CONTRACT_KEY:
            item.value = proven.to_json()
    onnx.save(model, tmp_path / "proven.onnx")
    files = {"parent": place / "parent.onnx", "proven": tmp_path / "proven.onnx"}

    again = measure(files, [score_of(place / "frames")], 1, place / "kept", rounds=1)

    assert again.row("proven").scores == figures.row("dim").scores
    assert again.row("proven").sha256 != figures.row("dim").sha256
    assert CONTRACT.detections is not None
    sterner = contract_with(detections=replace(CONTRACT.detections, score_threshold=0.5))
    other = write_tiny_model(tmp_path / "other.onnx", sterner)
    with pytest.raises(AssertionError, match="again"):
        measure({"parent": other}, [score_of(place / "frames")], 1, place / "kept", rounds=1)


def test_few_frames_have_no_interval_and_no_verdict(place: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "few", place / "parent.onnx", UNITS_MIN - 1)
    files = {"parent": place / "parent.onnx", "dim": place / "dim.onnx"}

    few = measure(files, [score_of(tmp_path / "few")], 1, tmp_path / "kept", rounds=1)

    figure = few.row("dim").scores["val"].means["miou"]
    assert (figure.low, figure.high) == (None, None)
    assert difference_of(figure).verdict == TOO_FEW


def test_frames_without_labels_of_these_classes_are_refused(place: Path, tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "void" / part).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "void" / "images" / "a.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "void" / "masks" / "a.png"), np.full((HEIGHT, WIDTH), 255, np.uint8))
    (tmp_path / "void" / "boxes.json").write_text(json.dumps({"a": {"boxes_xyxy": [], "labels": []}}))

    with pytest.raises(DataError, match="scores dark: expected frames with labels"):
        measure({"parent": place / "parent.onnx"}, [score_of(tmp_path / "void", "dark")], 1, tmp_path, rounds=1)


def shares(hits: list[int], pixels: int) -> FrameRecords:
    """Return records of frames of two classes, of which so many pixels of each frame are perceived rightly."""
    frames = len(hits)
    confusion = np.zeros((frames, 2, 3), np.int32)
    confusion[:, 0, 0], confusion[:, 0, 2] = hits, pixels - np.array(hits)
    return made_records(frames, ["right", "other"], [], confusion=confusion)


def test_the_interval_of_a_mean_is_the_known_one() -> None:
    """The IoU of these frames is the mean of their shares, whose interval is 1.96 standard errors to each side."""
    rng = np.random.default_rng(1)
    hits = rng.binomial(1, 0.7, 400) * 100
    own, better = hits.tolist(), np.minimum(hits + 3, 100).tolist()

    found = score_figures({"parent": shares(own, 100), "better": shares(better, 100)})

    figure, half = found["parent"].means["miou"], 1.96 * hits.std() / 100 / np.sqrt(400)
    assert ends(figure) == pytest.approx((hits.mean() / 100 - half, hits.mean() / 100 + half), abs=0.1 * half)
    # The difference of 0.03 where a frame was missed is far smaller than the interval of either file, yet sure.
    gained = difference_of(found["better"].means["miou"])
    assert gained.verdict == BETTER
    assert gained.value == pytest.approx(0.03 * (hits == 0).mean())
