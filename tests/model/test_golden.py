import base64

import numpy as np
import pytest
from tiny_student import CONTRACT

from ros_kd_perception.model import golden as golden_module
from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.contract import ContractError, GoldenLimits
from ros_kd_perception.model.golden import (
    GoldenFrame,
    GoldenResult,
    compare_boxes,
    golden_from_text,
    golden_to_text,
)
from ros_kd_perception.structures import Detections

USUAL = GoldenLimits()


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


def test_writing_no_frames_or_too_many_is_refused():
    for count in (0, 9):
        with pytest.raises(ValueError, match="golden frames"):
            golden_to_text([golden()] * count)


def test_iou_against_areas_counted_by_hand():
    iou = iou_xyxy(np.array([[0, 0, 10, 10]], np.float32), np.array([[5, 0, 15, 10], [20, 20, 30, 30]], np.float32))
    assert np.allclose(iou, [[50 / 150, 0]])
    first = np.array([[0, 0, 4, 4], [10, 10, 12, 12]], np.float32)
    assert np.allclose(iou_xyxy(first, np.array([[2, 0, 6, 4]], np.float32)), [[8 / 24], [0]])


def one_box(score: float, label: int = 0, shift: float = 0) -> Detections:
    boxes = np.array([[shift, 0, shift + 10, 10]], np.float32)
    return Detections(boxes, np.array([score], np.float32), np.array([label], np.int32))


def both(first: Detections, second: Detections) -> Detections:
    names = ("boxes_xyxy", "scores", "labels")
    return Detections(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names))


def judged(expected: Detections, found: Detections, limits: GoldenLimits = USUAL) -> tuple[GoldenResult, bool]:
    result = GoldenResult(1.0, *compare_boxes(expected, found, limits, 0.3))
    return result, result.within(limits)


def test_boxes_match_only_boxes_of_the_same_class():
    expected = one_box(0.9)
    assert judged(expected, both(one_box(0.9), one_box(0.2, 1, 50))) == (GoldenResult(), True)
    assert judged(expected, one_box(0.9, 1)) == (GoldenResult(1, 0, 1, 1), False)
    assert judged(expected, detections()) == (GoldenResult(1, 0, 1, 0), False)
    assert judged(detections(), detections()) == (GoldenResult(), True)


@pytest.mark.parametrize("score", [0.0, 0.84, 0.96, 9.0, np.nan])
def test_a_box_at_the_same_place_with_another_score_disagrees(score: float):
    result, good = judged(one_box(0.9), one_box(score))
    assert not good
    assert not result.score_difference <= GoldenLimits().score_difference_max


@pytest.mark.parametrize(("before", "after"), [(0.301, 0.299), (0.9, 0.87), (0.5, 0.54), (0.33, 0.29)])
def test_a_score_that_moves_a_little_agrees(before: float, after: float):
    result, good = judged(one_box(before), one_box(after))
    assert good
    assert result.score_difference == pytest.approx(abs(before - after), abs=1e-6)


def test_a_file_may_allow_its_scores_to_move_further():
    wide = GoldenLimits(score_difference_max=0.1)
    assert judged(one_box(0.9), one_box(0.82), wide)[1]
    assert not judged(one_box(0.9), one_box(0.79), wide)[1]
    assert judged(detections(), one_box(0.39), wide)[1]
    assert not judged(detections(), one_box(0.41), wide)[1]


def test_a_new_box_just_above_the_threshold_agrees_and_one_far_above_it_does_not():
    assert judged(detections(), one_box(0.34))[1]
    assert judged(detections(), one_box(0.36)) == (GoldenResult(unexpected_boxes=1), False)
    # A second box at the same place must match in score, too: 0.99 is too far from the expected 0.9.
    assert judged(one_box(0.9), both(one_box(0.9), one_box(0.99))) == (GoldenResult(unexpected_boxes=1), False)


def test_ninety_nine_invented_boxes_disagree():
    invented = Detections(np.tile([[0, 0, 600, 380]], (99, 1)), np.full(99, 0.99, np.float32), np.zeros(99, np.int32))
    result, good = judged(one_box(0.9), both(one_box(0.9), invented))
    assert not good
    assert result.unexpected_boxes == 99
    assert "99 unexpected boxes" in result.words(CONTRACT)


def test_boxes_of_zero_width_agree_with_themselves_and_not_with_boxes_elsewhere():
    def flat(x: float) -> Detections:
        return Detections(np.array([[x, 5, x, 25]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32))

    assert judged(flat(96), flat(96)) == (GoldenResult(), True)
    assert judged(flat(96), flat(96.01))[1]
    assert not judged(flat(96), flat(90))[1]


@pytest.mark.parametrize(("shift", "good"), [(0.1, True), (1.0, False)])
def test_a_shift_of_a_fraction_of_a_pixel_is_allowed_for_a_tiny_box(shift: float, good: bool):
    def tiny(x: float) -> Detections:
        return Detections(
            np.array([[x, 0, x + 2, 2]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)
        )

    assert judged(tiny(0), tiny(shift))[1] is good


def test_nan_in_boxes_disagrees():
    lost = Detections(np.full((1, 4), np.nan, np.float32), np.array([0.9], np.float32), np.array([0], np.int32))
    assert not judged(one_box(0.9), lost)[1]
    assert not judged(lost, one_box(0.9))[1]


def png_with_claimed_length(chunk: bytes, length: int) -> bytes:
    png = golden_module._to_png(np.zeros((CONTRACT.input.height, CONTRACT.input.width, 3), np.uint8))
    data = bytearray(base64.b64decode(png))
    at = data.index(chunk) - 4
    data[at : at + 4] = length.to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        png_with_claimed_length(b"IDAT", 0x7FFF_FFFF),
        png_with_claimed_length(b"IHDR", 0x7FFF_FFFF),
        png_with_claimed_length(b"IEND", 1),
        png_with_claimed_length(b"IDAT", 1)[:60],
        b"II*\0" + png_with_claimed_length(b"IEND", 0)[4:],
    ],
    ids=["a long chunk", "a long header", "a chunk longer than the file", "cut off", "TIFF"],
)
def test_a_picture_that_claims_more_than_it_holds_never_reaches_the_decoder(
    monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    # OpenCV 5.0 allocates as many bytes as a chunk claims: a contract of 400 bytes took more than a gigabyte.
    monkeypatch.setattr(golden_module.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="a picture that is not a whole PNG"):
        golden_module._from_png(base64.b64encode(data).decode(), (CONTRACT.input.height, CONTRACT.input.width, 3))
