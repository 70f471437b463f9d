"""What is scored, the baseline, and the command `python -m training tracking`."""

from __future__ import annotations

import numpy as np
import pytest
from checkout import ROOT

from ros_kd_perception.structures import Detections
from ros_kd_perception.tracking.byte_tracker import ByteTracker, TrackingSettings
from training.__main__ import main
from training.stability.sequence import FrameTruth
from training.tracking.greedy_tracker import GreedyTracker
from training.tracking.measure import scored_frame

STUDENT = ROOT / "models" / "student.onnx"


def boxes(*corners: tuple[float, float, float, float], scores: float = 0.9, label: int = 0) -> Detections:
    rows = np.array(corners, np.float32).reshape(-1, 4)
    return Detections(rows, np.full(len(rows), scores, np.float32), np.full(len(rows), label, np.int32))


def truth(*corners: tuple[float, float, float, float]) -> FrameTruth:
    rows = np.array(corners, np.float32).reshape(-1, 4)
    ids = np.arange(10, 10 + len(rows), dtype=np.int32)
    return FrameTruth(np.zeros((1, 1), np.uint8), rows, np.zeros(len(rows), np.int32), ids)


LARGE, SMALL = (0.0, 0.0, 60.0, 40.0), (200.0, 0.0, 210.0, 10.0)


def test_boxes_on_small_objects_and_boxes_without_ids_do_not_count() -> None:
    found = boxes(LARGE, SMALL, (400, 0, 460, 40), (500, 0, 560, 40))
    scored = scored_frame(found, np.array([1, 2, 3, 0]), truth(LARGE, SMALL), 24.0)
    assert scored.true_ids.tolist() == [10]
    assert scored.found_ids.tolist() == [1, 3]
    assert scored.overlaps.tolist() == [[1.0, 0.0]]


def test_a_box_of_another_class_is_on_nothing() -> None:
    scored = scored_frame(boxes(LARGE, label=1), np.array([1]), truth(LARGE), 24.0)
    assert scored.overlaps.tolist() == [[0.0]]


@pytest.mark.parametrize(("step_px", "ids"), [(6, 1), (61, 6)])
def test_the_baseline_keeps_ids_of_slow_objects_and_loses_fast_ones(step_px: int, ids: int) -> None:
    tracker = GreedyTracker(TrackingSettings())
    frames = [boxes((step_px * i, 0, step_px * i + 60, 40)) for i in range(6)]
    assert len({tracker.update(i * 10**8, frame).tolist()[0] for i, frame in enumerate(frames)}) == ids


def test_the_baseline_confuses_objects_that_cross_and_the_tracker_does_not() -> None:
    frames = [boxes((24 * i, 0, 24 * i + 60, 40), (360 - 24 * i, 0, 420 - 24 * i, 40)) for i in range(16)]
    ends = {}
    for tracker in (ByteTracker(TrackingSettings()), GreedyTracker(TrackingSettings())):
        ids = [tracker.update(number * 10**8, frame).tolist() for number, frame in enumerate(frames)]
        ends[type(tracker)] = ids[-1] == ids[0]
    assert ends == {ByteTracker: True, GreedyTracker: False}


def test_the_command_prints_a_line_for_each_model_and_tracker(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tracking", str(STUDENT), "--drives", "1", "--seconds", "0.4", "--rate", "5", "--threads", "1"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["model", "true", "true", "student.onnx", "student.onnx"]
    for line in lines[1:]:
        hota, detection, association, idf1, _, seen, found = map(float, line.split()[-7:])
        assert 0 < hota <= 1
        assert 0 < association <= 1
        assert 0 < idf1 <= 1
        is_exact = line.startswith("true boxes")
        assert (detection == 1.0) == is_exact  # exact boxes have their objects, whatever their ids are
        assert (found == seen > 0) or not is_exact


def test_a_missing_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tracking", "nowhere.ckpt"]) == 2
    assert "nowhere.ckpt: expected a checkpoint" in capsys.readouterr().err
