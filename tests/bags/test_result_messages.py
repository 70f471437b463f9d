"""Test that results of foreign recorders are read, or refused in one sentence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ros_kd_perception.bags.errors import BagError
from ros_kd_perception.bags.result_messages import class_map_of, class_names_of, detections_of
from ros_kd_perception.model.contract import MAX_DETECTIONS


def mask(**changes: Any) -> Any:
    fields = {"encoding": "mono8", "height": 2, "width": 3, "step": 4, "data": np.arange(8, dtype=np.uint8)}
    return SimpleNamespace(**(fields | changes))


def box(class_id: str = "1", score: float = 0.5, size_x: float = 4.0) -> Any:
    hypothesis = SimpleNamespace(class_id=class_id, score=score)
    center = SimpleNamespace(position=SimpleNamespace(x=10.0, y=20.0))
    bbox = SimpleNamespace(center=center, size_x=size_x, size_y=6.0)
    return SimpleNamespace(results=[SimpleNamespace(hypothesis=hypothesis)], bbox=bbox)


def test_rows_of_a_mask_may_be_padded() -> None:
    assert class_map_of("front", mask()).tolist() == [[0, 1, 2], [4, 5, 6]]


@pytest.mark.parametrize(
    "changes",
    [
        {"encoding": "bgr8"},
        {"height": 3},
        {"step": 2},
        {"height": 0},
        {"width": 0},
        {"height": 1 << 20, "step": 0, "width": 0},
    ],
)
def test_a_mask_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BagError, match=r"expected a (mono8 )?class map of front, got"):
        class_map_of("front", mask(**changes))


def test_boxes_have_corners_and_the_best_hypothesis() -> None:
    found = detections_of("front", SimpleNamespace(detections=[box("7"), SimpleNamespace(results=[], bbox=None)]))
    assert found.boxes_xyxy.tolist() == [[8, 17, 12, 23]]
    assert (found.labels.tolist(), found.scores.tolist()) == ([7], [0.5])


def test_class_ids_may_be_names() -> None:
    boxes = SimpleNamespace(detections=[box("car"), box("2"), box("tram")])
    assert detections_of("front", boxes, {"car": 0, "tram": 9}).labels.tolist() == [0, 2, 9]


@pytest.mark.parametrize(
    ("detections", "said"),
    [
        ([box("car")], "expected class ids of 0 to 255"),
        ([box("256")], "expected class ids of 0 to 255"),
        ([box("-1")], "expected class ids of 0 to 255"),
        ([box(score=float("nan"))], "expected finite boxes and scores"),
        ([box(size_x=float("inf"))], "expected finite boxes and scores"),
        ([box()] * (MAX_DETECTIONS + 1), "expected at most 1000 boxes of front in a frame"),
    ],
)
def test_boxes_that_cannot_be_compared_are_refused(detections: list[Any], said: str) -> None:
    with pytest.raises(BagError, match=said):
        detections_of("front", SimpleNamespace(detections=detections))


@pytest.mark.parametrize("ids", [[1, 1], [256], [-1]])
def test_names_have_one_id_each(ids: list[int]) -> None:
    classes = [SimpleNamespace(class_id=class_id, class_name="name") for class_id in ids]
    with pytest.raises(BagError, match="expected ids of 0 to 255 on /labels, each once"):
        class_names_of("/labels", SimpleNamespace(class_map=classes))
