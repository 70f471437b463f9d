"""Objects over time: lost and found, jitter and waits of objects whose story is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ros_kd_perception.sample_drive.flow import Flow
from ros_kd_perception.structures import Detections
from training.stability.objects import FirstFound, ObjectChanges, SeenObject, seen_objects
from training.stability.warped_boxes import moved_box, partners


def box(x: float, y: float, width: float = 40.0, height: float = 30.0) -> np.ndarray:
    return np.array([x, y, x + width, y + height], np.float32)


def detections(*boxes: np.ndarray, labels: Sequence[int] = ()) -> Detections:
    count = len(boxes)
    stacked = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(
        stacked, np.linspace(0.9, 0.5, count).astype(np.float32), np.array(labels or [0] * count, np.int32)
    )


def story(found: str, height: float = 30.0) -> list[dict[int, SeenObject]]:
    """Return the frames of one object: `x` found, `o` not found, a blank: not visible."""
    true = box(100, 100, height=height)
    return [{} if sign == " " else {7: SeenObject(true, true if sign == "x" else None)} for sign in found]


def test_a_detection_takes_the_object_of_its_class_that_it_covers_best() -> None:
    true = np.stack([box(0, 0), box(10, 0), box(200, 0)])
    found = detections(box(9, 0), box(1, 0), box(200, 2), labels=[0, 0, 1])
    seen = seen_objects(found, true, np.array([0, 0, 0], np.int32), np.array([5, 6, 7], np.int32))
    by_id = {identity: None if each.found_xyxy is None else each.found_xyxy[0] for identity, each in seen.items()}
    assert by_id == {5: 1.0, 6: 9.0, 7: None}  # the last one is of another class


def test_lost_and_gained() -> None:
    changes = ObjectChanges.of([story("xxoxo x"), story("oox")], 20)
    assert (changes.watched, changes.found_before, changes.lost, changes.gained) == (6, 3, 2, 2)


def test_objects_that_are_small_or_change_their_size_do_not_count() -> None:
    assert ObjectChanges.of([story("xo", height=19)], 20).watched == 0
    hidden = [{7: SeenObject(box(0, 0, 40), None)}, {7: SeenObject(box(0, 0, 30), None)}]
    assert ObjectChanges.of([hidden], 20).watched == 0


def test_jitter_is_what_the_box_moves_beside_the_truth() -> None:
    frames = [
        {1: SeenObject(box(0, 0), box(2, 1))},
        {1: SeenObject(box(9, 5), box(14, 10))},
    ]
    changes = ObjectChanges.of([frames], 20)
    assert changes.moves_px == pytest.approx([5.0])  # off by (2, 1), then by (5, 5)
    assert changes.moves_share == pytest.approx([5.0 / 30])
    assert changes.growths == pytest.approx([0.0])
    frames[1] = {1: SeenObject(box(9, 5), box(9, 5, 44, 33))}
    assert ObjectChanges.of([frames], 20).growths == pytest.approx([np.log(1.1)])


@pytest.mark.parametrize(
    ("signs", "wait"),
    [
        ("   oooxxo", [3]),
        (" xxxxxxx", [0]),
        (" oooooooo", [np.inf]),
        ("ooooxx", []),  # there from the first frame on
        ("      oo", []),  # visible for less than half a second at 10 Hz
    ],
)
def test_the_wait_until_an_object_is_found(signs: str, wait: list[float]) -> None:
    assert FirstFound.of([story(signs)], 20, 10.0).frames.tolist() == wait


def test_an_object_that_is_found_before_it_is_large_needs_no_wait() -> None:
    frames = [{}, *story("x", 15), *story("ooooooo", 30)]
    assert FirstFound.of([frames], 20, 10.0).frames.tolist() == [0]


def test_quantiles_count_what_is_never_found() -> None:
    first = FirstFound(np.array([1.0, 2, 3, 4, np.inf, 0, 0, 0, 0, 0]))
    assert (first.quantile(0.5), first.quantile(0.9), first.never) == (0.0, 4.0, 1)
    assert FirstFound(np.array([0.0, np.inf])).quantile(0.9) is None
    assert FirstFound(np.zeros(0)).quantile(0.5) is None


def zoomed(growth: float, dx: float, dy: float) -> Flow:
    """Return the motion of a scene that grows and then shifts, in a frame of 320 x 200."""
    columns, rows = np.meshgrid(np.arange(320, dtype=np.float32), np.arange(200, dtype=np.float32))
    places = np.stack([(columns - dx) / growth, (rows - dy) / growth], axis=-1)
    inside = ((places >= 0) & (places <= [319, 199])).all(axis=-1)
    return Flow(places.astype(np.float32), inside)


@pytest.mark.parametrize(("growth", "dx", "dy"), [(1.0, 0, 0), (1.0, 7, -4), (1.1, 3, 2), (0.92, 5, 9)])
def test_a_box_moves_and_grows_with_its_pixels(growth: float, dx: float, dy: float) -> None:
    moved = moved_box(box(100, 60), zoomed(growth, dx, dy))
    expected = box(100 * growth + dx, 60 * growth + dy, 40 * growth, 30 * growth)
    assert moved == pytest.approx(expected, abs=0.6)


def test_boxes_that_leave_the_frame_or_cannot_be_followed_do_not_count() -> None:
    flow = zoomed(1.0, 0, 0)
    assert moved_box(box(290, 60), zoomed(1.0, 25, 0)) is None
    flow.visible[60:90, 100:140] = False
    assert moved_box(box(100, 60), flow) is None


def test_boxes_without_partners_are_counted_by_class() -> None:
    flow = zoomed(1.0, 6, 0)
    earlier = detections(box(20, 20), box(100, 60), box(200, 100), labels=[0, 1, 1])
    later = detections(box(26, 20), box(106, 60), labels=[0, 0])
    counts = partners(earlier, later, flow)
    assert (counts.boxes, counts.alone, counts.share) == (3, 2, 2 / 3)
    assert partners(detections(), later, flow).share is None
