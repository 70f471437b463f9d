"""Test the overlay of a perception: tints, boxes and labels are in their places only, and drawing is fast."""

import time
from dataclasses import replace

import numpy as np
import pytest
from tiny_student import CONTRACT

from ros_kd_perception.drawing.overlay import TINT, draw_overlay
from ros_kd_perception.structures import Detections, Perception, Timing

ROAD, CAR = 3, 8
COLORS_RGB = {c.id: c.color_rgb for c in CONTRACT.class_map.classes}


def perception(class_map: np.ndarray, boxes: list[list[float]], labels: list[int]) -> Perception:
    scores = np.linspace(0.9, 0.4, len(boxes)).astype(np.float32)
    found = Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int32))
    return Perception("front", 1, "optical", class_map, found, np.zeros((1, 1), np.float32), Timing(1, 2, 3))


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_each_class_is_tinted_and_unlabelled_pixels_are_unchanged() -> None:
    image = picture(60, 80)
    class_map = np.full((60, 80), CONTRACT.class_map.unlabeled_id, np.uint8)
    class_map[:20], class_map[20:40] = ROAD, CAR
    drawn = draw_overlay(image, perception(class_map, [], []), CONTRACT)
    np.testing.assert_array_equal(drawn[40:], image[40:])
    for rows, class_id in ((slice(0, 20), ROAD), (slice(20, 40), CAR)):
        expected = (1 - TINT) * image[rows].astype(float) + TINT * np.array(COLORS_RGB[class_id][::-1])
        np.testing.assert_allclose(drawn[rows], expected, atol=1)


def test_pixels_with_an_unknown_id_are_unchanged() -> None:
    image = picture(20, 30)
    np.testing.assert_array_equal(
        draw_overlay(image, perception(np.full((20, 30), 200, np.uint8), [], []), CONTRACT), image
    )


def test_the_frame_itself_is_unchanged() -> None:
    image = picture(120, 160)
    image.flags.writeable = False
    before = image.copy()
    drawn = draw_overlay(image, perception(np.zeros((120, 160), np.uint8), [[10, 40, 90, 100]], [0]), CONTRACT)
    np.testing.assert_array_equal(image, before)
    assert drawn.flags.c_contiguous
    assert drawn.flags.writeable
    assert drawn.shape == image.shape


def test_a_frame_with_padded_rows_is_drawn_like_any_other() -> None:
    padded = picture(60, 100)
    found = perception(np.full((60, 80), ROAD, np.uint8), [[5, 20, 40, 50]], [1])
    np.testing.assert_array_equal(
        draw_overlay(padded[:, :80], found, CONTRACT), draw_overlay(padded[:, :80].copy(), found, CONTRACT)
    )


def test_a_box_is_outlined_in_its_colour_inside_its_sides_and_named() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    found = perception(np.full((240, 320), 255, np.uint8), [[100, 100, 200, 180]], [0])
    drawn = draw_overlay(image, found, CONTRACT)
    color_bgr = CONTRACT.detections.classes[0].color_rgb[::-1]
    for row, column in ((100, 150), (179, 150), (140, 100), (140, 199)):
        assert tuple(drawn[row, column]) == color_bgr
    assert not drawn[102:178, 102:198].any()  # the inside of the box is unchanged
    assert not drawn[181:].any()
    label = drawn[60:99, 100:300]
    assert (label == color_bgr).all(axis=2).sum() > 200  # the background of the label
    assert (label.min(axis=2) > 200).sum() > 20  # white letters on dark blue


@pytest.mark.parametrize("box", [[0, 0, 320, 240], [300, 0, 320, 10], [319, 239, 320, 240], [0, 235, 3, 240]])
def test_a_label_at_any_border_stays_in_the_picture(box: list[float]) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    drawn = draw_overlay(image, perception(np.full((240, 320), 255, np.uint8), [box], [3]), CONTRACT)
    color_bgr = CONTRACT.detections.classes[3].color_rgb[::-1]
    assert (drawn == color_bgr).all(axis=2).sum() > 400
    assert (drawn == 0).all(axis=2).sum() > 0


def test_the_box_with_the_highest_score_is_on_top() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    boxes = [[50, 100, 150, 200], [50, 100, 250, 200]]
    drawn = draw_overlay(image, perception(np.full((240, 320), 255, np.uint8), boxes, [0, 1]), CONTRACT)
    assert tuple(drawn[150, 50]) == CONTRACT.detections.classes[0].color_rgb[::-1]


def test_labels_do_not_cover_each_other() -> None:
    image = np.zeros((240, 640, 3), np.uint8)
    nothing = np.full((240, 640), 255, np.uint8)
    alone = draw_overlay(image, perception(nothing, [[100, 100, 200, 180]], [0]), CONTRACT)
    # The same box many times with falling scores has two labels: one above and one below.
    crowd = draw_overlay(image, perception(nothing, [[100, 100, 200, 180]] * 5, [0, 1, 1, 1, 1]), CONTRACT)
    np.testing.assert_array_equal(crowd[:180], alone[:180])
    second_bgr = CONTRACT.detections.classes[1].color_rgb[::-1]
    below = (crowd[180:] == second_bgr).all(axis=2)
    assert below.sum() > 200
    assert np.flatnonzero(below.any(axis=1)).max() < 30


def test_labels_of_people_are_drawn_without_scores() -> None:
    frame, found = picture(120, 200), perception(np.full((120, 200), 255, np.uint8), [[50, 40, 150, 110]], [0])
    with_score, without = (draw_overlay(frame, found, CONTRACT, show_scores=shown) for shown in (True, False))
    color = np.array(CONTRACT.detections.classes[0].color_rgb[::-1], np.uint8)
    plates = [(drawn[30:38] == color).all(axis=2).any(axis=0).sum() for drawn in (with_score, without)]
    assert plates[0] > plates[1] > 0


def test_a_perception_of_one_task_is_drawn_with_what_there_is() -> None:
    image = picture(120, 160)
    image.flags.writeable = False
    both = perception(np.full((120, 160), ROAD, np.uint8), [[10, 40, 90, 100]], [0])

    boxes = draw_overlay(image, replace(both, class_map=None, uncertainty=None), CONTRACT)
    mask = draw_overlay(image, replace(both, detections=None), CONTRACT)

    np.testing.assert_array_equal(boxes[101:], image[101:])
    assert boxes[40, 90 - 1].tolist() == list(CONTRACT.detections.classes[0].color_rgb[::-1])
    np.testing.assert_array_equal(mask, draw_overlay(image, perception(both.class_map, [], []), CONTRACT))


def test_a_class_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="class map"):
        draw_overlay(picture(20, 30), perception(np.zeros((30, 20), np.uint8), [], []), CONTRACT)


def test_the_free_space_boundary_is_a_white_line_above_the_first_free_row() -> None:
    plain = np.full((72, 96, 3), 90, np.uint8)
    seen = perception(np.full((72, 96), CONTRACT.class_map.unlabeled_id, np.uint8), [], [])
    boundary = np.full(96, 40, np.int32)
    boundary[:10] = -1  # free up to the top
    drawn = draw_overlay(plain, seen, CONTRACT, boundary)
    assert (drawn[41, 15:90] == 255).all()
    assert (drawn[44:, 15:90] == 90).all()
    assert (drawn[:38, 15:90] == 90).all()
    assert (drawn[0, :9] == 255).all()


def test_it_is_fast_enough_for_a_live_view() -> None:
    image, random = picture(720, 1280), np.random.default_rng(1)
    corners = random.uniform(0, 600, (20, 2))
    boxes = np.concatenate([corners, corners + 80], axis=1).tolist()
    found = perception(random.integers(0, 11, (720, 1280), dtype=np.uint8), boxes, [0] * 20)
    times_ms = []
    for _ in range(15):
        started = time.perf_counter()
        draw_overlay(image, found, CONTRACT)
        times_ms.append((time.perf_counter() - started) * 1e3)
    assert min(times_ms) < 40  # 3 ms on an idle core; masks for each class or a float image exceed the limit


def test_only_boxes_with_a_track_show_an_id() -> None:
    image = picture(240, 320)
    plain = perception(np.full((240, 320), ROAD, np.uint8), [[10, 60, 90, 200], [170, 60, 250, 200]], [0, 0])

    def drawn(*ids: int) -> np.ndarray:
        found = replace(plain.require_detections(), track_ids=np.array(ids, np.int64))
        return draw_overlay(image, replace(plain, detections=found), CONTRACT)

    without = draw_overlay(image, plain, CONTRACT)
    np.testing.assert_array_equal(drawn(0, 0), without)
    one = drawn(0, 12)
    np.testing.assert_array_equal(one[:, :160], without[:, :160])
    assert (one[:, 160:] != without[:, 160:]).any()
