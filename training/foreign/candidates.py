"""Reads the boxes of every form of detector into one: corners in input pixels, with scores and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.errors import RecipeError
from training.foreign.classes import OutputClasses
from training.foreign.detection_forms import (
    BoxesScoresForm,
    DenseForm,
    Detection,
    DetrForm,
    NmsDoneForm,
    YoloV8Form,
    YoloxForm,
)
from training.foreign.graph_writer import GraphWriter
from training.foreign.network import PREFIX, Network, Output

_CORRECT_CLASSES = "correct detection.classes, detection.kind or the name of the output"
_Y_FIRST = np.array([1, 0, 3, 2], np.int64)


@dataclass(frozen=True)
class Candidates:
    """All boxes of a network, before the best are chosen.

    Attributes:
        boxes: Name of the boxes in the graph, float32 [N, A, 4], xyxy in pixels of the network input.
        scores: Name of the scores: float32 [N, A, C] for the reported classes, or [N, A] where `labels` has the class.
        labels: Name of the places of the classes among the reported ones, int64 [N, A]; rows of other classes have the
            place after the last, and a score of 0. Empty if there is a score for each class.
        count: How many boxes A each frame has; None if that differs from frame to frame.
    """

    boxes: str
    scores: str
    labels: str = ""
    count: int | None = None


def read_candidates(
    writer: GraphWriter, network: Network, description: Detection, classes: OutputClasses
) -> Candidates:
    """Add the nodes that decode the boxes of a network.

    Raises:
        ModelFileError: An output is missing, or has another shape than the description says.
        RecipeError: A key of the description does not fit the network.
    """
    reader = _Reader(writer, network, classes)
    if isinstance(description, DenseForm):
        return reader.dense(description)
    if isinstance(description, DetrForm):
        return reader.detr(description)
    if isinstance(description, BoxesScoresForm):
        return reader.boxes_and_scores(description)
    return reader.rows(description) if description.in_rows else reader.labeled_boxes(description)


class _Reader:
    def __init__(self, writer: GraphWriter, network: Network, classes: OutputClasses) -> None:
        self._writer, self._network, self._classes = writer, network, classes

    def dense(self, form: DenseForm) -> Candidates:
        output = self._network.output(form.output, "detection.output")
        first = 4 if isinstance(form, YoloV8Form) else 5
        value, count = self._table(output, first + self._classes.channels)
        center, size = self._writer.columns(value, 0, 2), self._writer.columns(value, 2, 4)
        if isinstance(form, YoloxForm):
            cells, strides = self._grid(form, output, count)
            center = self._writer.add("Mul", self._writer.add("Add", center, cells), strides)
            size = self._writer.add("Mul", self._writer.add("Exp", size), strides)
        scores = self._kept(self._writer.columns(value, first, first + self._classes.channels))
        if first == 5:
            scores = self._writer.add("Mul", scores, self._writer.columns(value, 4, 5))
        return Candidates(self._corners_of_center(center, size), scores, count=count)

    def detr(self, form: DetrForm) -> Candidates:
        logits = self._network.output(form.logits, "detection.logits")
        boxes = self._network.output(form.boxes, "detection.boxes")
        extra = int(form.scores == "softmax")
        values, count = self._table(logits, self._classes.channels + extra)
        probabilities = self._writer.add("Softmax", values, axis=2) if extra else self._writer.add("Sigmoid", values)
        corners = self._corners(self._boxes(boxes, count), "cxcywh", "relative")
        return Candidates(corners, self._kept(probabilities), count=count)

    def boxes_and_scores(self, form: BoxesScoresForm) -> Candidates:
        output = self._network.output(form.scores, "detection.scores")
        values, count = self._table(output, self._classes.channels + int(form.background != "none"))
        if form.activation != "none":
            values = (
                self._writer.add("Softmax", values, axis=2)
                if form.activation == "softmax"
                else self._writer.add("Sigmoid", values)
            )
        boxes = self._boxes(self._network.output(form.boxes, "detection.boxes"), count)
        scores = self._kept(values, first=int(form.background == "first"))
        return Candidates(self._corners(boxes, form.corners, form.unit), scores, count=count)

    def rows(self, form: NmsDoneForm) -> Candidates:
        output = self._network.output(form.rows, "detection.rows")
        columns, shape = form.columns, output.shape
        if len(shape) not in (2, 3) or shape[-1] != len(columns) or (len(shape) == 3 and shape[0] != 1):
            raise self._network.error(
                output,
                f"the shape [1, n, {len(columns)}], for the columns {', '.join(columns)}",
                "correct detection.columns or detection.rows",
            )
        value = self._framed(output, 3)
        place = {name: columns.index(name) for name in ("x1", "y1", "x2", "y2", "score", "label")}
        boxes = self._writer.add(
            "Gather", value, np.array([place[name] for name in ("x1", "y1", "x2", "y2")], np.int64), axis=2
        )
        scores = self._writer.add("Gather", value, np.int64(place["score"]), axis=2)
        labels = self._writer.add("Gather", value, np.int64(place["label"]), axis=2)
        return self._labeled(form, boxes, scores, labels)

    def labeled_boxes(self, form: NmsDoneForm) -> Candidates:
        values = []
        for key, axes in (("boxes", 3), ("scores", 2), ("labels", 2)):
            output = self._network.output(getattr(form, key), f"detection.{key}")
            shape = output.shape
            if len(shape) not in (axes - 1, axes) or (axes == 3 and shape[-1] != 4):
                expected = "[1, n, 4]" if axes == 3 else "[1, n]"
                raise self._network.error(output, f"the shape {expected}", f"correct detection.{key}")
            values.append(self._framed(output, axes))
        boxes, scores, labels = values
        if form.count:
            output = self._network.output(form.count, "detection.count")
            if int(np.prod(output.shape)) != 1:
                raise self._network.error(output, "one number", "correct detection.count")
            scores = self._first_ones(scores, PREFIX + output.name)
        return self._labeled(form, boxes, scores, labels)

    def _labeled(self, form: NmsDoneForm, boxes: str, scores: str, labels: str) -> Candidates:
        """Turn the network's numbers into places among the reported classes; the others get a score of 0."""
        writer, other = self._writer, np.int64(len(self._classes.classes))
        numbers = writer.cast(labels, np.int64)
        limited = writer.add("Clip", numbers, np.int64(-1), np.int64(256))
        places = writer.add("Gather", self._classes.place_of_number, writer.add("Add", limited, np.int64(1)), axis=0)
        reported = writer.cast(writer.add("Less", places, other), np.float32)
        corners = self._corners(boxes, form.corners if not form.in_rows else "xyxy", form.unit)
        return Candidates(corners, writer.add("Mul", scores, reported), places)

    def _first_ones(self, scores: str, count: str) -> str:
        """Set the scores [N, A] to 0 from a given place on."""
        writer = self._writer
        length = writer.columns(writer.add("Shape", scores), 1, 2, axis=0)
        places = writer.add("Range", np.int64(0), writer.add("Squeeze", length), np.int64(1))
        counted = writer.add("Less", places, writer.reshape(writer.cast(count, np.int64), (-1, 1)))
        return writer.add("Mul", scores, writer.cast(counted, np.float32))

    def _table(self, output: Output, columns: int) -> tuple[str, int]:
        """Return an output as float32 [N, A, columns], and A. Its last two axes may come in either order."""
        shape = output.shape
        sizes = list(shape[1:])
        if len(sizes) == 3 and 1 in sizes[:2]:
            sizes.remove(1)
        if len(sizes) != 2 or columns not in sizes:
            raise self._network.error(
                output, f"the shape [1, A, {columns}], for {self._classes.channels} classes", _CORRECT_CLASSES
            )
        value = self._writer.cast(PREFIX + output.name, np.float32)
        if len(shape) == 4:
            value = self._writer.reshape(value, (0, *sizes))
        if sizes[1] != columns:
            return self._writer.add("Transpose", value, perm=[0, 2, 1]), sizes[1]
        return value, sizes[0]

    def _boxes(self, output: Output, count: int) -> str:
        """Return boxes as float32 [N, A, 4]."""
        shape = output.shape
        if len(shape) not in (3, 4) or shape[-1] != 4 or shape[1] != count or (len(shape) == 4 and shape[2] != 1):
            raise self._network.error(
                output, f"the shape [1, {count}, 4], a box for each row of scores", _CORRECT_CLASSES
            )
        return self._writer.reshape(self._writer.cast(PREFIX + output.name, np.float32), (0, count, 4))

    def _framed(self, output: Output, axes: int) -> str:
        """Return an output as float32 with an axis for the frames."""
        value = self._writer.cast(PREFIX + output.name, np.float32)
        if len(output.shape) == axes:
            return value
        if self._network.batch != 1:
            raise RecipeError(
                f"input.batch must be 1: the output {output.name} has no axis for frames, write `batch: 1` below input"
            )
        return self._writer.add("Unsqueeze", value, np.array([0], np.int64))

    def _kept(self, scores: str, first: int = 0) -> str:
        """Return the scores [N, A, C] of the reported classes, whose first channel is `first`."""
        kept = self._classes.kept_channels + first
        if (kept == np.arange(first, first + len(kept))).all():
            return self._writer.columns(scores, first, first + len(kept))
        return self._writer.add("Gather", scores, kept, axis=2)

    def _corners(self, boxes: str, corners: str, unit: str) -> str:
        """Return boxes as xyxy in pixels."""
        writer = self._writer
        if unit == "relative":
            width, height = self._network.width, self._network.height
            sides = (height, width) * 2 if corners == "yxyx" else (width, height) * 2
            boxes = writer.add("Mul", boxes, np.array(sides, np.float32))
        if corners == "xyxy":
            return boxes
        if corners == "yxyx":
            return writer.add("Gather", boxes, _Y_FIRST, axis=2)
        first, size = writer.columns(boxes, 0, 2), writer.columns(boxes, 2, 4)
        if corners == "cxcywh":
            return self._corners_of_center(first, size)
        return writer.add("Concat", first, writer.add("Add", first, size), axis=2)

    def _corners_of_center(self, center: str, size: str) -> str:
        half = self._writer.add("Mul", size, np.float32(0.5))
        return self._writer.add(
            "Concat", self._writer.add("Sub", center, half), self._writer.add("Add", center, half), axis=2
        )

    def _grid(self, form: YoloxForm, output: Output, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return column and row of each cell, float32 [1, A, 2], and its stride, float32 [1, A, 1]."""
        cells, strides = [], []
        for stride in form.strides:
            rows, columns = self._network.height // stride, self._network.width // stride
            across, down = np.meshgrid(np.arange(columns), np.arange(rows))
            cells.append(np.stack([across.ravel(), down.ravel()], axis=1))
            strides.append(np.full((rows * columns, 1), stride))
        grid = np.concatenate(cells)
        if len(grid) != count:
            raise self._network.error(
                output,
                f"{len(grid)} rows, one for each cell of the strides {', '.join(map(str, form.strides))}",
                "correct detection.strides, or take the kind yolov5 if the boxes are decoded",
            )
        return grid[None].astype(np.float32), np.concatenate(strides)[None].astype(np.float32)
