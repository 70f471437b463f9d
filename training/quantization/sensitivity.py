"""Says what each layer costs as integers: how far the outputs move if it alone is quantised. No labels are needed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.network_outputs import NetworkOutputs
from ros_kd_perception.structures import Detections, UInt8Array
from training.export.derived_file import derived_contract, open_graph
from training.quantization.quantise import Quantiser


@dataclass(frozen=True)
class Change:
    """How far the outputs of a network moved. Each is 0 for equal outputs, and for a task that is absent.

    Attributes:
        cells: Share of the cells of the class map that changed, 0..1.
        boxes: What the boxes above the score threshold lost, 0..1: one minus the IoU with the best box of the same
            class, times one minus the difference of their scores. Mean over boxes.
    """

    cells: float
    boxes: float

    @property
    def total(self) -> float:
        """Both figures together. Layers are ordered by it."""
        return self.cells + self.boxes

    @classmethod
    def between(cls, expected: Sequence[NetworkOutputs], found: Sequence[NetworkOutputs], threshold: float) -> Change:
        """Compare the outputs of two networks for the same frames, one frame in each.

        Args:
            expected: Outputs of the network in fp32.
            found: Outputs of the other one.
            threshold: Score from which boxes of the first one count.
        """
        cells: list[float] = []
        boxes: list[float] = []
        for ours, theirs in zip(expected, found, strict=True):
            if ours.class_map is not None and theirs.class_map is not None:
                cells.append(float(np.mean(ours.class_map != theirs.class_map)))
            rows, others = ours.rows(0), theirs.rows(0)
            if rows is not None and others is not None:
                boxes += _lost(rows.at_least(threshold), others)
        return cls(float(np.mean(cells)) if cells else 0.0, float(np.mean(boxes)) if boxes else 0.0)


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer costs.

    Attributes:
        layer: Its name in the file.
        change: How far the outputs move if this layer alone becomes integers.
    """

    layer: str
    change: Change


def layer_sensitivities(quantiser: Quantiser, images: Sequence[UInt8Array]) -> list[LayerSensitivity]:
    """Quantise each layer alone and compare the outputs with those in fp32. The most sensitive layer comes first.

    Args:
        quantiser: The network with its ranges.
        images: Network inputs, uint8 [H, W, 3]. They should not be the calibration frames; ten are enough.

    Raises:
        ModelFileError, ModelError: A graph with one quantised layer cannot be made or run.
    """
    threshold = quantiser.contract.score_threshold
    model = open_graph(quantiser.fp32, quantiser.contract)
    inputs = [np.ascontiguousarray(image[None]) for image in images]
    expected = [model.run(image) for image in inputs]
    int8 = derived_contract(quantiser.contract, "int8", {})
    found = []
    for layer in tqdm(quantiser.layers, desc="sensitivity of layers", unit="layer", disable=None):
        alone = open_graph(quantiser.graph(set(quantiser.layers) - {layer}), int8)
        change = Change.between(expected, [alone.run(image) for image in inputs], threshold)
        found.append(LayerSensitivity(layer, change))
    return sorted(found, key=lambda row: row.change.total, reverse=True)


def sensitivity_table(rows: Sequence[LayerSensitivity], in_fp32: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the rows as plain values for a report: `layer`, `cells`, `boxes` and `precision`."""
    return [
        {
            "layer": row.layer,
            "cells": row.change.cells,
            "boxes": row.change.boxes,
            "precision": "fp32" if row.layer in in_fp32 else "int8",
        }
        for row in rows
    ]


def _lost(expected: Detections, found: Detections) -> list[float]:
    if not len(expected):
        return []
    same = expected.labels[:, None] == found.labels[None, :]
    near = 1 - np.abs(expected.scores[:, None] - found.scores[None, :])
    kept = np.where(same, iou_xyxy(expected.boxes_xyxy, found.boxes_xyxy) * near, 0.0).max(axis=1, initial=0.0)
    return [float(value) for value in 1 - kept]
