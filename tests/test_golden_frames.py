import numpy as np
import pytest
from tiny_student import CONTRACT

from ros_kd_perception.golden_frames import (
    GoldenFrame,
    golden_from_text,
    golden_to_text,
    iou_xyxy,
    worst_box_iou,
)
from ros_kd_perception.model_contract import ContractError
from ros_kd_perception.structures import Detections


def detections(*rows: tuple[float, float, float, float, int]) -> Detections:
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(len(rows), 0.5, np.float32), np.array([row[4] for row in rows], np.int32))


def golden(seed: int = 0) -> GoldenFrame:
    rng = np.random.default_rng(seed)
    return GoldenFrame(
        rng.integers(0, 256, (64, 96, 3), dtype=np.uint8),
        rng.integers(0, 11, (16, 24), dtype=np.uint8),
        detections((1, 2, 30, 40, 0), (5, 5, 9, 9, 2)),
    )


def test_text_round_trip():
    (back,) = golden_from_text(golden_to_text([golden()]), CONTRACT)
    assert (back.image == golden().image).all()
    assert (back.class_map == golden().class_map).all()
    assert np.allclose(back.detections.boxes_xyxy, golden().detections.boxes_xyxy)


def test_frames_of_another_size_are_refused():
    with pytest.raises(ContractError, match="64x96"):
        golden_from_text(golden_to_text([GoldenFrame(np.zeros((60, 96, 3), np.uint8), *vars_of(golden()))]), CONTRACT)


def vars_of(frame: GoldenFrame) -> tuple[np.ndarray, Detections]:
    return frame.class_map, frame.detections


def test_too_many_or_no_frames_are_not_written():
    for count in (0, 9):
        with pytest.raises(ValueError, match="golden frames"):
            golden_to_text([golden()] * count)


def test_iou_against_areas_counted_by_hand():
    iou = iou_xyxy(np.array([[0, 0, 10, 10]], np.float32), np.array([[5, 0, 15, 10], [20, 20, 30, 30]], np.float32))
    assert np.allclose(iou, [[50 / 150, 0]])
    first = np.array([[0, 0, 4, 4], [10, 10, 12, 12]], np.float32)
    assert np.allclose(iou_xyxy(first, np.array([[2, 0, 6, 4]], np.float32)), [[8 / 24], [0]])


def test_worst_box_iou_looks_at_boxes_of_the_same_label_only():
    expected = detections((0, 0, 10, 10, 0))
    assert worst_box_iou(expected, detections((0, 0, 10, 10, 0), (50, 50, 60, 60, 1))) == 1
    assert worst_box_iou(expected, detections((0, 0, 10, 10, 1))) == 0
    assert worst_box_iou(expected, detections()) == 0
    assert worst_box_iou(detections(), detections()) == 1
