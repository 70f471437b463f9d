"""Tests agreement figures against values computed by hand, and the answers and failures of the shadow process."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_student import CONTRACT, contract_with, write_tiny_student

from ros_kd_perception.candidates import shadow_process
from ros_kd_perception.candidates.agreement import ClassNames, map_agreement, match_boxes
from ros_kd_perception.candidates.shadow_process import ShadowFailed, ShadowProcess
from ros_kd_perception.model.contract import ClassMapSpec
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Detections, Frame, Perception

A = ClassNames({0: "sky", 1: "road", 255: ""}, {0: "car", 1: "sign"})
B = ClassNames({1: "sky", 0: "road", 7: "snow", 255: ""}, {5: "car", 6: "dog"})


def detections(*rows: tuple[float, float, float, float, int]) -> Detections:
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(len(rows), 0.5, np.float32), np.array([row[4] for row in rows], np.int32))


def test_class_maps_are_compared_by_name_not_by_id() -> None:
    active = np.array([[0, 0, 1, 255]], np.uint8)
    assert map_agreement(active, active, A, A) == 1.0
    assert map_agreement(active, np.array([[1, 1, 0, 255]], np.uint8), A, B) == 1.0
    # The second cell is snow instead of road, the last one road instead of unlabeled.
    assert map_agreement(active, np.array([[1, 7, 0, 0]], np.uint8), A, B) == 0.5


def test_boxes_match_one_to_one_by_name_and_overlap() -> None:
    active = detections((0, 0, 10, 10, 0), (20, 0, 30, 10, 0), (0, 20, 10, 30, 1))
    shadow = detections((0, 0, 10, 9, 5), (0, 0, 10, 10, 5), (20, 0, 24, 10, 5), (0, 20, 10, 30, 6))
    # The box with IoU 0.9 comes second to one with 1.0, an IoU of 0.4 is too little, and the last names differ.
    assert match_boxes(active, shadow, A, B) == pytest.approx([1.0])
    assert match_boxes(active, active, A, A) == pytest.approx([1.0, 1.0, 1.0])
    assert match_boxes(detections(), shadow, A, B) == []


def test_names_survive_json() -> None:
    names = ClassNames.of(CONTRACT)
    assert ClassNames.from_json(names.to_json()) == names
    assert names.class_map[CONTRACT.class_map.unlabeled_id] == ""


@pytest.fixture
def seen(tmp_path: Path) -> tuple[Frame, Perception, Path]:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (100, 180, 3), dtype=np.uint8)
    frame = Frame("front", 1, "front_optical", picture[:, ::2])  # not C-contiguous
    model = OnnxModel.open(path, device="cpu", intra_op_threads=1)
    return frame, Perceiver(model).perceive([frame])[0], path


def test_the_same_model_agrees_fully_and_another_only_on_shared_class_names(
    seen: tuple[Frame, Perception, Path], tmp_path: Path
) -> None:
    frame, perception, path = seen
    names = ClassNames.of(CONTRACT)
    shadow = ShadowProcess(str(path))
    try:
        assert shadow.wait_until_ready() == "tiny 1"
        for _ in range(2):
            agreement = shadow.compare(frame, perception, names)
            assert agreement.class_map_agreement == 1.0
            assert agreement.active_boxes == agreement.shadow_boxes == agreement.matched_boxes > 0
            assert agreement.mean_iou == pytest.approx(1.0)
            assert agreement.inference_ms > 0
        unseen = shadow.compare(frame, replace(perception, detections=detections()), names)
        assert (unseen.matched_boxes, unseen.mean_iou) == (0, None)
    finally:
        shadow.close()
    renamed = tuple(replace(c, name=f"other {c.name}") for c in CONTRACT.class_map.classes)
    spec = ClassMapSpec(CONTRACT.class_map.stride, CONTRACT.class_map.unlabeled_id, renamed)
    other = ShadowProcess(str(write_tiny_student(tmp_path / "other.onnx", contract_with(class_map=spec))))
    try:
        other.wait_until_ready()
        assert other.compare(frame, perception, names).class_map_agreement == 0.0
    finally:
        other.close()


def test_errors_distinguish_a_refused_model_a_dead_process_and_a_closed_one(
    seen: tuple[Frame, Perception, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, perception, path = seen
    (tmp_path / "noise.onnx").write_bytes(b"noise" * 100)
    refused = ShadowProcess(str(tmp_path / "noise.onnx"))
    with pytest.raises(ShadowFailed, match="to be an ONNX model"):
        refused.wait_until_ready()
    refused.close()

    dead = ShadowProcess(str(path))
    dead.wait_until_ready()
    dead._child.kill()
    with pytest.raises(ShadowFailed, match="set shadow_model again"):
        dead.compare(frame, perception, ClassNames.of(CONTRACT))
    dead.close()

    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setattr(shadow_process.sys, "executable", str(script))
    ended = ShadowProcess(str(path))
    threading.Timer(0.3, ended.close).start()
    with pytest.raises(ShadowFailed, match="was ended"):
        ended.wait_until_ready()
    monkeypatch.setattr(shadow_process, "ANSWER_TIMEOUT_S", 0.3)
    hanging = ShadowProcess(str(path))
    with pytest.raises(ShadowFailed, match="to answer within"):
        hanging.wait_until_ready()
    hanging.close()
    hanging.close()
