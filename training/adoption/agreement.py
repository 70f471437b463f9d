"""Compares an adopted file with the foreign file run by itself, on the same network inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.contract import GoldenLimits
from ros_kd_perception.model.execution_provider import SessionRequest, open_session
from ros_kd_perception.model.golden import compare_boxes
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.model.onnx_model import NetworkOutputs, OnnxModel
from ros_kd_perception.structures import UInt8Array
from training.adoption.reference import class_map_of, detections_of, network_input
from training.foreign.description import ForeignDescription
from training.foreign.foreign_file import ForeignFile
from training.foreign.graph import ForeignGraph

EQUAL_CELLS_MIN = 0.995
BOX_IOU_MIN = 0.95
SCORE_DIFFERENCE_MAX = 0.01
# Rounding may take a probability this far out of 0..1.
PROBABILITY_MARGIN = 1e-3


@dataclass(frozen=True)
class Agreement:
    """The worst figures over all compared frames. Those of an absent task are perfect.

    Attributes:
        frames: Number of compared frames.
        equal_cells: Share of equal cells of the class map, 0..1.
        classes: How many classes the class maps show together.
        boxes: How many boxes reach the score threshold in all frames together, duplicates included.
        box_iou: IoU of a box of the foreign file with the best box of its class.
        score_difference: Difference between a box and the box of the same class and place.
        unexpected_boxes: Boxes clearly above the threshold that the foreign file does not give.
    """

    frames: int = 0
    equal_cells: float = 1.0
    classes: int = 0
    boxes: int = 0
    box_iou: float = 1.0
    score_difference: float = 0.0
    unexpected_boxes: int = 0

    def check(self, file: ForeignFile) -> None:
        """Refuse an adopted file that differs.

        Raises:
            ModelFileError: A figure is out of its limit.
        """
        if (
            self.equal_cells < EQUAL_CELLS_MIN
            or self.box_iou < BOX_IOU_MIN
            or self.score_difference > SCORE_DIFFERENCE_MAX
            or self.unexpected_boxes
        ):
            raise ModelFileError(
                f"{file.path}: expected the adopted file to give the results of this file, but {self.equal_cells:.2%} "
                f"of the class map is equal, boxes differ down to an IoU of {self.box_iou:.3f}, scores by "
                f"{self.score_difference:.3f}, and {self.unexpected_boxes} boxes are new; nothing was written; export "
                "the network again with a newer exporter, and report it if it is refused again"
            )

    def table(self) -> str:
        """Return the figures as text, one in a line."""
        rows = [
            ("frames", f"{self.frames}"),
            ("equal cells of the class map", f"{self.equal_cells:.3%}"),
            ("classes in the class maps", f"{self.classes}"),
            ("boxes, duplicates included", f"{self.boxes}"),
            ("smallest IoU of a box", f"{self.box_iou:.4f}"),
            ("largest difference of a score", f"{self.score_difference:.5f}"),
        ]
        return "\n".join(f"  {name:32}{value}" for name, value in rows)


class ForeignRun:
    """Runs a foreign file by itself.

    Args:
        file: The foreign file.
        description: Meaning of its inputs and outputs.
        graph: The graph that was built around it, for classes and sizes.
    """

    def __init__(self, file: ForeignFile, description: ForeignDescription, graph: ForeignGraph) -> None:
        self._file, self._description, self._graph = file, description, graph
        self._source = next(iter(file.inputs.values()))
        shape = (graph.height, graph.width, 3)
        request = SessionRequest(file.model.SerializeToString(), file.sha256, "cpu", "auto", "fp32", shape)
        self._session, _ = open_session(request)

    def compare(self, model: OnnxModel, images: Sequence[UInt8Array]) -> Agreement:
        """Run both on network inputs, uint8 [H, W, 3], and return the worst figures.

        Raises:
            ModelFileError: Outputs of the foreign file cannot be what the description says.
        """
        total = Agreement(len(images))
        classes: set[int] = set()
        for image in images:
            raw = self._run(image)
            found = model.run(np.ascontiguousarray(image[None]))
            if found.class_map is not None:
                classes |= set(np.unique(found.class_map).tolist())
            total = self._worse(total, raw, found, model)
        seen = len(classes & {info.id for info in model.contract.segmentation_classes})
        return Agreement(**(vars(total) | {"classes": seen}))

    def _run(self, image: UInt8Array) -> dict[str, NDArray[Any]]:
        assert self._source.dtype is not None
        values = network_input(image, self._description.input, self._source.dtype)
        names = list(self._file.outputs)
        return dict(zip(names, self._session.run(names, {self._source.name: values}), strict=True))

    def _worse(
        self, total: Agreement, raw: Mapping[str, NDArray[Any]], found: NetworkOutputs, model: OnnxModel
    ) -> Agreement:
        figures = vars(total).copy()
        part, masks = self._description.segmentation, self._graph.segmentation
        cells = found.cells(0)
        if part and masks and cells is not None:
            _check_meaning(self._file, part.meaning, part.output, raw)
            expected = class_map_of(raw, part, masks, (cells.shape[0], cells.shape[1]))
            figures["equal_cells"] = min(total.equal_cells, float(np.mean(cells == expected)))
        form, boxes, rows = self._description.detection, self._graph.detection, found.rows(0)
        if form and boxes and rows is not None:
            _check_scores(self._file, rows.scores)
            known = detections_of(raw, form, boxes, model.contract)
            threshold = model.contract.score_threshold
            limits = GoldenLimits(box_iou_min=BOX_IOU_MIN)
            iou, difference, unexpected = compare_boxes(known, rows, limits, threshold)
            figures["boxes"] = total.boxes + len(known.scores)
            figures["box_iou"] = min(total.box_iou, iou)
            figures["score_difference"] = max(total.score_difference, difference)
            figures["unexpected_boxes"] = max(total.unexpected_boxes, unexpected)
        return Agreement(**figures)


def batches_agree(model: OnnxModel, images: Sequence[UInt8Array]) -> bool:
    """Return whether a model gives the same results for several frames at once as for each alone."""
    try:
        together = model.run(np.stack(images))
    except Exception:  # ONNX Runtime has a class for each status; a graph for one frame fails in many ways
        return False
    for row, image in enumerate(images):
        alone = model.run(np.ascontiguousarray(image[None]))
        for name, values in vars(alone).items():
            several = vars(together)[name]
            if values is None:
                continue
            if several.shape != (len(images), *values.shape[1:]):
                return False
            if name in ("scores", "uncertainty") and not np.allclose(several[row], values[0], atol=1e-3):
                return False
            if name == "class_map" and np.mean(several[row] == values[0]) < EQUAL_CELLS_MIN:
                return False
    return True


def _check_meaning(file: ForeignFile, meaning: str, name: str, raw: Mapping[str, NDArray[Any]]) -> None:
    values = raw[name] if name else next(iter(raw.values()))
    lowest, highest = float(values.min()), float(values.max())
    if meaning == "probabilities" and (lowest < -PROBABILITY_MARGIN or highest > 1 + PROBABILITY_MARGIN):
        raise ModelFileError(
            f"{file.path}: expected probabilities 0..1 in the segmentation as described, got {lowest:.3g} to "
            f"{highest:.3g}; write `meaning: logits` below segmentation"
        )


def _check_scores(file: ForeignFile, scores: NDArray[np.float32]) -> None:
    lowest, highest = float(scores.min()), float(scores.max())
    if not (lowest >= -PROBABILITY_MARGIN and highest <= 1 + PROBABILITY_MARGIN):
        raise ModelFileError(
            f"{file.path}: expected scores 0..1 of the boxes, got {lowest:.3g} to {highest:.3g}; correct "
            "detection.kind, or write `activation: sigmoid` for the kind boxes_scores"
        )
