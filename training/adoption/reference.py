"""Reads the outputs of a foreign file in plain NumPy: what its class map and its boxes are.

`python -m training adopt` compares the adopted file with this before it writes it. Nothing here is used to build the
graph, so an error in the graph shows as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.contract import ClassInfo, ModelContract
from ros_kd_perception.structures import Detections, UInt8Array
from training.foreign.classes import OutputClasses
from training.foreign.description import InputDescription, SegmentationDescription
from training.foreign.detection_forms import (
    BoxesScoresForm,
    DenseForm,
    Detection,
    DetrForm,
    NmsDoneForm,
    YoloV8Form,
    YoloxForm,
)
from training.label_sets.label_set import UNLABELED_ID

Floats = NDArray[np.float64]
Outputs = Mapping[str, NDArray[Any]]


def network_input(image: UInt8Array, description: InputDescription, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return one network input, uint8 [H, W, 3], as the foreign file takes it."""
    values: NDArray[Any] = image[None]
    if dtype != np.uint8:
        values = ((values / description.divide - np.array(description.mean)) / np.array(description.std)).astype(dtype)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if description.layout == "nchw" else values)


def class_map_of(
    outputs: Outputs, description: SegmentationDescription, classes: OutputClasses, cells: tuple[int, int]
) -> UInt8Array:
    """Return the class map of one frame in the given rows and columns."""
    values = _named(outputs, description.output)
    if description.meaning == "class_ids":
        numbers = values.reshape([size for size in values.shape if size != 1] or [1, 1]).astype(np.int64)
        ids = np.full(numbers.shape, UNLABELED_ID, np.uint8)
        for number, info in _by_number(classes).items():
            ids[numbers == number] = info.id
        return np.asarray(cv2.resize(ids, cells[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    scores = values[0].astype(np.float32)
    if description.layout == "nchw":
        scores = scores.transpose(1, 2, 0)
    if scores.shape[2] < classes.channels:
        rest = 1 - scores if description.meaning == "probabilities" else np.zeros_like(scores)
        scores = np.concatenate([rest, scores], axis=2)
    if scores.shape[:2] != cells:
        enlarged = [cv2.resize(np.ascontiguousarray(one), cells[::-1]) for one in scores.transpose(2, 0, 1)]
        scores = np.stack(enlarged, axis=2)
    return np.asarray(classes.id_of_channel[scores.argmax(axis=2)], np.uint8)


@dataclass(frozen=True)
class _Boxes:
    """Boxes xyxy [n, 4] in input pixels, scores [n] and the numbers or channels of their classes [n]."""

    xyxy: Floats
    scores: Floats
    channels: NDArray[np.int64]


def detections_of(
    outputs: Outputs, description: Detection, classes: OutputClasses, contract: ModelContract
) -> Detections:
    """Return the boxes of one frame at or above the contract's score threshold, best first, at most its `max`."""
    height, width = contract.input.height, contract.input.width
    assert contract.detections is not None
    if isinstance(description, NmsDoneForm):
        found, infos = _numbered(outputs, description, (height, width)), _by_number(classes)
    else:
        found = _scored(outputs, description, classes.channels, (height, width))
        infos = {int(channel): info for channel, info in zip(classes.kept_channels, classes.classes, strict=True)}
        if _reports_best(description):
            found = _best_of_each_box(found, infos)
    counted = found.scores >= contract.detections.score_threshold
    counted &= np.isin(found.channels, list(infos))
    order = np.flatnonzero(counted)[np.argsort(-found.scores[counted], kind="stable")][: contract.detections.max]
    return Detections(
        np.clip(found.xyxy[order], [-width, -height] * 2, [2 * width, 2 * height] * 2).astype(np.float32),
        found.scores[order].astype(np.float32),
        np.array([infos[int(channel)].id for channel in found.channels[order]], np.int32),
    )


def _scored(outputs: Outputs, form: Detection, channels: int, size: tuple[int, int]) -> _Boxes:
    """Return every box once for each channel."""
    if isinstance(form, DenseForm):
        xyxy, scores = _dense(_named(outputs, form.output), form, channels, size)
    elif isinstance(form, DetrForm):
        logits = _table(outputs[form.logits], channels + (form.scores == "softmax"))
        scores = (_softmax(logits) if form.scores == "softmax" else _sigmoid(logits))[:, :channels]
        xyxy = _to_corners(_table(outputs[form.boxes], 4), "cxcywh", "relative", size)
    else:
        assert isinstance(form, BoxesScoresForm)
        values = _table(outputs[form.scores], channels + (form.background != "none"))
        scores = {"none": lambda x: x, "sigmoid": _sigmoid, "softmax": _softmax}[form.activation](values)
        scores = scores[:, 1:] if form.background == "first" else scores[:, :channels]
        xyxy = _to_corners(_table(outputs[form.boxes], 4), form.corners, form.unit, size)
    return _Boxes(
        np.repeat(xyxy, channels, axis=0), scores.ravel(), np.tile(np.arange(channels, dtype=np.int64), len(xyxy))
    )


def _dense(values: NDArray[Any], form: DenseForm, channels: int, size: tuple[int, int]) -> tuple[Floats, Floats]:
    first = 4 if isinstance(form, YoloV8Form) else 5
    rows = _table(values, first + channels)
    boxes, scores = rows[:, :4], rows[:, first:]
    if first == 5:
        scores = scores * rows[:, 4:5]
    if isinstance(form, YoloxForm):
        cells = [
            (column, row, stride)
            for stride in form.strides
            for row in range(size[0] // stride)
            for column in range(size[1] // stride)
        ]
        column, row, stride = np.array(cells, np.float64).T
        x, y, width, height = boxes.T
        boxes = np.stack(
            [(x + column) * stride, (y + row) * stride, np.exp(width) * stride, np.exp(height) * stride], 1
        )
    return _to_corners(boxes, "cxcywh", "pixels", size), scores


def _numbered(outputs: Outputs, form: NmsDoneForm, size: tuple[int, int]) -> _Boxes:
    """Return the boxes of a network that removes duplicates itself, with its numbers of the classes."""
    if form.in_rows:
        rows = _named(outputs, form.rows).reshape(-1, len(form.columns)).astype(np.float64)
        columns = {name: rows[:, place] for place, name in enumerate(form.columns)}
        corners = np.stack([columns[name] for name in ("x1", "y1", "x2", "y2")], axis=1)
        xyxy = _to_corners(corners, "xyxy", form.unit, size)
        return _Boxes(xyxy, columns["score"], columns["label"].astype(np.int64))
    count = int(outputs[form.count].ravel()[0]) if form.count else None
    boxes = outputs[form.boxes].reshape(-1, 4).astype(np.float64)[:count]
    labels = outputs[form.labels].ravel().astype(np.int64)[:count]
    scores = outputs[form.scores].ravel().astype(np.float64)[:count]
    return _Boxes(_to_corners(boxes, form.corners, form.unit, size), scores, labels)


def _best_of_each_box(found: _Boxes, infos: Mapping[int, ClassInfo]) -> _Boxes:
    """Keep the best reported class of each box."""
    channels = int(found.channels.max(initial=0)) + 1
    scores = np.where(np.isin(found.channels, list(infos)), found.scores, -np.inf).reshape(-1, channels)
    best = np.arange(len(scores)) * channels + scores.argmax(axis=1)
    return _Boxes(found.xyxy[best], found.scores[best], found.channels[best])


def _reports_best(form: Detection) -> bool:
    chosen = getattr(form, "classes_per_box", "best")
    if chosen is None and isinstance(form, DetrForm):
        return form.scores == "softmax"
    return bool(chosen == "best")


def _to_corners(boxes: Floats, corners: str, unit: str, size: tuple[int, int]) -> Floats:
    height, width = size
    first, second, third, fourth = boxes.T
    if corners == "yxyx":
        first, second, third, fourth = second, first, fourth, third
    elif corners == "xywh":
        third, fourth = first + third, second + fourth
    elif corners == "cxcywh":
        first, third = first - third / 2, first + third / 2
        second, fourth = second - fourth / 2, second + fourth / 2
    xyxy = np.stack([first, second, third, fourth], axis=1)
    scale = [width, height, width, height] if unit == "relative" else [1] * 4
    return np.asarray(xyxy * np.array(scale), np.float64)


def _table(values: NDArray[Any], columns: int) -> Floats:
    """Return rows [A, columns] of one frame, from either order of the axes."""
    rows = values.astype(np.float64)
    return np.asarray(rows.reshape(-1, columns) if values.shape[-1] == columns else rows.reshape(columns, -1).T)


def _named(outputs: Outputs, name: str) -> NDArray[Any]:
    return outputs[name] if name else next(iter(outputs.values()))


def _by_number(classes: OutputClasses) -> dict[int, ClassInfo]:
    return {
        classes.numbers[channel]: info for channel, info in zip(classes.kept_channels, classes.classes, strict=True)
    }


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)
