"""Adds the nodes from a foreign network's boxes to the rows of the contract, or to all its boxes for a teacher."""

from __future__ import annotations

import numpy as np

from training.foreign.candidates import read_candidates
from training.foreign.classes import OutputClasses
from training.foreign.detection_forms import Detection, DetrForm, NmsDoneForm
from training.foreign.graph_writer import GraphWriter
from training.foreign.network import Network

_ROW_AXIS = np.array([1], np.int64)
_LAST_AXIS = np.array([2], np.int64)


class DetectionWriter:
    """Adds the nodes after the boxes of a foreign network.

    Boxes may lie outside of the input, by up to its size on each side. Clipping them here would change how much they
    overlap, and with it which of them are duplicates. The vehicle clips them to the frame.

    Attributes:
        rows: How many boxes the outputs of the contract have for each frame.
    """

    def __init__(self, writer: GraphWriter, network: Network, description: Detection, classes: OutputClasses) -> None:
        self._writer, self._network, self._classes = writer, network, classes
        self._candidates = read_candidates(writer, network, description, classes)
        self._one_class = bool(self._candidates.labels) or classes_per_box(description) == "best"
        count, most = self._candidates.count, description.rows_max
        self.rows = most if count is None else min(most, count * (1 if self._one_class else len(classes.classes)))

    def write_contract(self) -> None:
        """Write the outputs `boxes`, `scores` and `labels` of the contract: the rows with the best scores."""
        writer, boxes = self._writer, self._padded(self._candidates.boxes, axes=3)
        if self._one_class:
            scores, classes = self._best_classes()
            boxes_of_best = writer.top_k(self._padded(scores, axes=2), self.rows, output="scores")
            places = writer.add("GatherElements", self._padded(classes, axes=2), boxes_of_best, axis=1)
        else:
            cells = writer.top_k(writer.reshape(self._candidates.scores, (0, -1)), self.rows, output="scores")
            count = np.int64(len(self._classes.classes))
            boxes_of_best, places = writer.add("Div", cells, count), writer.add("Mod", cells, count)
        rows = writer.add("Expand", writer.add("Unsqueeze", boxes_of_best, _LAST_AXIS), np.array([1, 1, 4], np.int64))
        self._write_boxes(writer.add("GatherElements", boxes, rows, axis=1))
        # A row of a class that is not reported has a score of 0. Its label must be one of the contract's all the same.
        ids = np.append(self._classes.kept_ids, self._classes.kept_ids[:1])
        writer.add("Gather", ids, places, output="labels", axis=0)

    def write_teacher(self) -> None:
        """Write all `boxes`, float32 [N, A, 4], and their `scores` for each reported class, float32 [N, A, C]."""
        writer, count = self._writer, len(self._classes.classes)
        scores = self._candidates.scores
        if self._candidates.labels:
            chosen = writer.add(
                "OneHot", self._candidates.labels, np.int64(count + 1), np.array([0, 1], np.float32), axis=2
            )
            scores = writer.columns(writer.add("Mul", chosen, writer.add("Unsqueeze", scores, _LAST_AXIS)), 0, count)
        self._write_boxes(self._candidates.boxes)
        writer.add("Identity", scores, output="scores")

    def _best_classes(self) -> tuple[str, str]:
        """Return the score and the place of the class of each box, [N, A]."""
        if self._candidates.labels:
            return self._candidates.scores, self._candidates.labels
        scores = self._writer.add("ReduceMax", self._candidates.scores, _LAST_AXIS, keepdims=0)
        return scores, self._writer.add("ArgMax", self._candidates.scores, axis=2, keepdims=0)

    def _padded(self, value: str, axes: int) -> str:
        """Add as many rows of zeros as the contract's outputs have, where a frame may have fewer boxes."""
        if self._candidates.count is not None:
            return value
        pads = np.zeros(2 * axes, np.int64)
        pads[axes + 1] = self.rows
        return self._writer.add("Pad", value, pads)

    def _write_boxes(self, boxes: str) -> None:
        sides = np.array([self._network.width, self._network.height] * 2, np.float32)
        # Max and Min keep NaN, which the vehicle looks for; Clip may not.
        not_less = self._writer.add("Max", boxes, -sides)
        self._writer.add("Min", not_less, 2 * sides, output="boxes")


def classes_per_box(description: Detection) -> str:
    """Return whether a box is reported for its `best` class or for `all` with a high score."""
    if isinstance(description, NmsDoneForm):
        return "best"
    if isinstance(description, DetrForm) and description.classes_per_box is None:
        return "all" if description.scores == "sigmoid" else "best"
    return description.classes_per_box or "best"
