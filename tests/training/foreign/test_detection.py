"""The boxes of every form of detector, against rows that are decoded here one by one."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_networks import HEIGHT, WIDTH, built, run_built, run_graph, save_network
from numpy.typing import NDArray

RNG = np.random.default_rng(5)
NAMES = ["car", "person", "bus"]
STRIDES = (8, 16, 32)
CELLS = [(c, r, s) for s in STRIDES for r in range(HEIGHT // s) for c in range(WIDTH // s)]
COUNT = len(CELLS)

Row = tuple[list[float], float, int]  # box xyxy, score, label


def floats(*shape: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float32]:
    return RNG.uniform(low, high, shape).astype(np.float32)


def sizes(count: int) -> NDArray[np.float32]:
    """Return centres inside of the input and sides, [count, 4]."""
    return np.concatenate(
        [floats(count, 1, high=WIDTH), floats(count, 1, high=HEIGHT), floats(count, 2, low=4, high=30)], 1
    )


def corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def check_rows(found: dict[str, NDArray[Any]], expected: list[Row]) -> None:
    """Compare the rows of the contract with the best of the expected ones."""
    count = found["scores"].shape[1]
    best = sorted(expected, key=lambda row: -row[1])[:count]
    assert found["labels"].dtype == np.int32
    np.testing.assert_allclose(found["scores"][0, : len(best)], [row[1] for row in best], atol=1e-5)
    np.testing.assert_array_equal(found["labels"][0, : len(best)], [row[2] for row in best])
    np.testing.assert_allclose(found["boxes"][0, : len(best)], [row[0] for row in best], atol=1e-3)
    assert not found["scores"][0, len(best) :].any()


def best_class(scores: NDArray[np.float32], kept: tuple[int, ...] = (0, 1, 2)) -> tuple[float, int]:
    label = max(kept, key=lambda k: scores[k])
    return float(scores[label]), label


@pytest.mark.parametrize("ignored", [(), ("person",)])
def test_yolox_is_decoded_by_grid_and_stride(tmp_path: Path, ignored: tuple[str, ...]) -> None:
    raw = np.concatenate([floats(COUNT, 4, low=-1, high=2), floats(COUNT, 4)], axis=1)
    path = save_network(tmp_path / "net.onnx", {"output": raw[None]})
    kept = tuple(k for k, name in enumerate(NAMES) if name not in ignored)

    graph = built(path, {"detection": {"kind": "yolox", "classes": NAMES, "ignored": list(ignored)}})

    expected: list[Row] = []
    for (column, row, stride), (x, y, w, h, objectness, *scores) in zip(CELLS, raw.tolist(), strict=True):
        score, label = best_class(np.array(scores), kept)
        box = corners((x + column) * stride, (y + row) * stride, math.exp(w) * stride, math.exp(h) * stride)
        expected.append(
            (np.clip(box, [-WIDTH, -HEIGHT] * 2, [2 * WIDTH, 2 * HEIGHT] * 2).tolist(), score * objectness, label)
        )
    assert graph.rows == COUNT
    check_rows(run_graph(graph), expected)


@pytest.mark.parametrize("kind", ["yolov5", "yolov8"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("per_box", ["best", "all"])
def test_decoded_rows_are_taken_as_they_are(tmp_path: Path, kind: str, transposed: bool, per_box: str) -> None:
    boxes, objectness, scores = sizes(40), floats(40, 1), floats(40, 3)
    raw = np.concatenate([boxes, objectness, scores] if kind == "yolov5" else [boxes, scores], axis=1)
    path = save_network(tmp_path / "net.onnx", {"output0": (raw.T if transposed else raw)[None]})
    description = {"kind": kind, "classes": NAMES, "classes_per_box": per_box, "max_detections": 50}

    graph = built(path, {"detection": description})

    scores = scores * objectness if kind == "yolov5" else scores
    expected: list[Row] = []
    for box, row in zip(boxes.tolist(), scores, strict=True):
        chosen = [best_class(row)] if per_box == "best" else [(float(row[k]), k) for k in range(3)]
        expected += [(corners(*box), score, label) for score, label in chosen]
    assert graph.rows == (40 if per_box == "best" else 50)
    check_rows(run_graph(graph), expected)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_detr_has_relative_boxes_and_logits(tmp_path: Path, scores: str) -> None:
    boxes, logits = floats(30, 4, low=0.2, high=0.6), floats(30, 3 + (scores == "softmax"), low=-3, high=3)
    path = save_network(tmp_path / "net.onnx", {"logits": logits[None], "pred_boxes": boxes[None]})

    found = run_built(path, {"detection": {"kind": "detr", "classes": NAMES, "scores": scores}})

    expected: list[Row] = []
    for (x, y, w, h), row in zip(boxes.tolist(), logits.tolist(), strict=True):
        box = corners(x * WIDTH, y * HEIGHT, w * WIDTH, h * HEIGHT)
        if scores == "sigmoid":  # every class of every query counts
            expected += [(box, sigmoid(value), label) for label, value in enumerate(row)]
        else:
            shares = [math.exp(value) / sum(map(math.exp, row)) for value in row[:3]]
            expected.append((box, max(shares), shares.index(max(shares))))
    check_rows(found, expected)


@pytest.mark.parametrize("form", ["xyxy", "cxcywh", "xywh", "yxyx"])
@pytest.mark.parametrize("unit", ["pixels", "relative"])
@pytest.mark.parametrize("background", ["none", "first", "last"])
def test_boxes_and_scores_apart(tmp_path: Path, form: str, unit: str, background: str) -> None:
    boxes, logits = sizes(25), floats(25, 3 + (background != "none"), low=-3, high=3)
    x, y, w, h = boxes.T
    written = {
        "xyxy": [x - w / 2, y - h / 2, x + w / 2, y + h / 2],
        "cxcywh": [x, y, w, h],
        "xywh": [x - w / 2, y - h / 2, w, h],
        "yxyx": [y - h / 2, x - w / 2, y + h / 2, x + w / 2],
    }[form]
    values = np.stack(written, axis=1)
    if unit == "relative":
        values = values / np.array([HEIGHT, WIDTH] * 2 if form == "yxyx" else [WIDTH, HEIGHT] * 2, np.float32)
    path = save_network(
        tmp_path / "net.onnx", {"scores": logits[None], "boxes": values.astype(np.float32)[None, :, None]}
    )
    description = {"kind": "boxes_scores", "corners": form, "unit": unit, "background": background}
    description |= {"activation": "softmax", "classes": NAMES, "classes_per_box": "best"}

    found = run_built(path, {"detection": description})

    expected: list[Row] = []
    first = int(background == "first")
    for box, row in zip(boxes.tolist(), logits.astype(np.float64), strict=True):
        shares = (np.exp(row) / np.exp(row).sum())[first : first + 3]
        expected.append((corners(*box), float(shares.max()), int(shares.argmax())))
    check_rows(found, expected)


@pytest.mark.parametrize("axes", [2, 3])
def test_rows_after_nms(tmp_path: Path, axes: int) -> None:
    rows = [[10, 12, 40, 50, 0, 0.9, 0], [5, 5, 20, 25, 0, 0.4, 2], [1, 1, 9, 9, 0, 0.8, 1], [1, 1, 9, 9, 0, 0.95, 7]]
    raw = np.array(rows, np.float32)
    path = save_network(tmp_path / "net.onnx", {"dets": raw if axes == 2 else raw[None]})
    columns = ["x1", "y1", "x2", "y2", "frame", "score", "label"]
    description = {"kind": "nms_done", "columns": columns, "classes": NAMES, "ignored": ["person"], "max_detections": 5}

    found = run_built(path, {"detection": description})

    # A person is ignored, and 7 is no class. There are fewer boxes than rows.
    check_rows(found, [([10, 12, 40, 50], 0.9, 0), ([5, 5, 20, 25], 0.4, 2)])
    assert found["boxes"].shape == (1, 5, 4)


def test_boxes_scores_and_numbers_after_nms(tmp_path: Path) -> None:
    boxes = np.array([[[0.25, 0.5, 0.5, 0.75], [0, 0, 0.5, 0.25], [0.1, 0.1, 0.2, 0.2]]], np.float32)
    network = {
        "detection_boxes": boxes,
        "detection_scores": np.array([[0.5, 0.7, 0.9]], np.float32),
        "detection_classes": np.array([[1, 3, 2]], np.float32),
        "num_detections": np.array([2], np.float32),
    }
    path = save_network(tmp_path / "net.onnx", network)
    description = {
        "kind": "nms_done",
        "boxes": "detection_boxes",
        "scores": "detection_scores",
        "labels": "detection_classes",
        "count": "num_detections",
        "corners": "yxyx",
        "unit": "relative",
        "numbering": "from_1",
        "classes": NAMES,
    }

    found, teacher = run_built(path, {"detection": description}), run_built(path, {"detection": description}, "teacher")

    check_rows(found, [([0, 0, 24, 32], 0.7, 2), ([48, 16, 72, 32], 0.5, 0)])
    np.testing.assert_allclose(teacher["scores"], [[[0.5, 0, 0], [0, 0, 0.7], [0, 0, 0]]])
    np.testing.assert_allclose(teacher["boxes"][0, 0], [48, 16, 72, 32], atol=1e-4)


def test_a_teacher_gives_every_box_with_a_score_for_each_reported_class(tmp_path: Path) -> None:
    boxes, scores = sizes(40), floats(40, 3)
    path = save_network(tmp_path / "net.onnx", {"output0": np.concatenate([boxes, scores], axis=1).T[None]})
    description = {"kind": "yolov8", "classes": NAMES, "ignored": ["car"], "max_detections": 5}

    found = run_built(path, {"detection": description}, "teacher")

    np.testing.assert_allclose(found["boxes"][0], [corners(*box) for box in boxes.tolist()], atol=1e-3)
    np.testing.assert_array_equal(found["scores"][0], scores[:, 1:])


def test_an_overflow_stays_visible(tmp_path: Path) -> None:
    raw = np.zeros((1, COUNT, 8), np.float32)
    raw[0, 0] = np.nan
    path = save_network(tmp_path / "net.onnx", {"output": raw})

    found = run_built(path, {"detection": {"kind": "yolox", "classes": NAMES}})

    assert np.isnan(found["boxes"]).any() or np.isnan(found["scores"]).any()
