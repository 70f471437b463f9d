"""Parity: compare the outputs of an exported student with those of the trained network on real frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ros_kd_perception.model.onnx_model import NetworkOutputs, OnnxModel
from ros_kd_perception.structures import Detections, UInt8Array
from training.export.parity_reference import SCORE_ROUNDING, DetectionReference, SegmentationReference
from training.networks.student import Student, StudentOutputs
from training.networks.views import run_views

_NO_CELL = 1e6  # cost of a row without a cell; higher than the cost of any number of optional cells


class ParityError(ValueError):
    """The outputs of an export differ from those of its network, or the network's outputs are not finite."""


@dataclass(frozen=True)
class ParityReport:
    """Counts of differences over all frames. Differences within rounding do not count.

    Attributes:
        frames: Number of compared frames.
        wrong_cells: Cells of the class map with a class to which the network gives less than to another class.
        foreign_rows: Rows of boxes, scores and labels that match no cell of the network, or that repeat a row.
        missing_rows: Cells of the network whose score is high enough for a row, but which have no row.
        unordered_rows: Rows with a higher score than the row before.
        repeated_rows: Rows that repeat a better one of their class, in a file that drops such rows.
        wrong_blocks: Values of the uncertainty that differ.
        tied_cells: Cells of the class map that differ where the network itself is undecided. They are not errors.
    """

    frames: int
    wrong_cells: int = 0
    foreign_rows: int = 0
    missing_rows: int = 0
    unordered_rows: int = 0
    repeated_rows: int = 0
    wrong_blocks: int = 0
    tied_cells: int = 0

    def failures(self) -> list[str]:
        """Return the differences in words; empty if the export is good."""
        checks = [
            (self.wrong_cells, "cells of the class map name another class"),
            (self.foreign_rows, "boxes with their scores and labels are those of no cell"),
            (self.missing_rows, "boxes are missing"),
            (self.unordered_rows, "scores are above the one before"),
            (self.repeated_rows, "boxes repeat a better one"),
            (self.wrong_blocks, "values of the uncertainty differ"),
        ]
        return [f"{count} {words}" for count, words in checks if count]

    def table(self) -> str:
        """Return the counts as text, one in a line."""
        rows = [
            ("frames", self.frames),
            ("class map cells that differ", self.wrong_cells),
            ("class map cells that are a tie", self.tied_cells),
            ("boxes of no cell", self.foreign_rows),
            ("boxes that are missing", self.missing_rows),
            ("scores out of order", self.unordered_rows),
            ("boxes that repeat a better one", self.repeated_rows),
            ("uncertainties that differ", self.wrong_blocks),
        ]
        return "\n".join(f"  {name:32}{count}" for name, count in rows)

    def __add__(self, other: ParityReport) -> ParityReport:
        """Return the sums of the counts of both reports."""
        return ParityReport(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))


@torch.no_grad()
def measure_parity(
    student: Student,
    model: OnnxModel,
    images_bgr: Sequence[UInt8Array],
    score_scales: Sequence[tuple[float, float]] = (),
    half_view: bool = False,
    overlap_max: float | None = None,
) -> ParityReport:
    """Run both on network inputs, uint8 [H, W, 3], and compare the outputs.

    The reference is the student as it was trained: with unfused branches and separate scale, and with every cell
    decoded.

    Args:
        student: The student.
        model: The file.
        images_bgr: The network inputs.
        score_scales: Scale and shift of the logit of each class's scores; empty = none.
        half_view: Whether it looks for boxes at half the size, too; see `run_views`.
        overlap_max: IoU above which it drops a box for a better one of its class; None = it drops none.

    Raises:
        ValueError: There are no images.
        ParityError: The outputs of the student contain NaN or infinity.
    """
    if not images_bgr:
        raise ValueError("parity needs at least one frame to compare on, got none; give a folder of frames")
    student = student.eval()
    device = next(student.parameters()).device
    total = ParityReport(0)
    for image in images_bgr:
        inputs = torch.from_numpy(np.ascontiguousarray(image[None])).to(device).permute(0, 3, 1, 2).float() / 255.0
        outputs = run_views(student, inputs, half_view)
        _check_finite(outputs)
        found = model.run(np.ascontiguousarray(image[None]))
        total += _compare(outputs, found, image, score_scales, overlap_max)
    return total


def _check_finite(outputs: StudentOutputs) -> None:
    logits = [] if outputs.segmentation_logits is None else [outputs.segmentation_logits]
    if outputs.detection is not None:
        logits += [*outputs.detection.class_logits, *outputs.detection.distance_logits]
    if not all(bool(values.isfinite().all()) for values in logits):
        raise ParityError(
            "expected finite outputs of the trained network, got NaN or infinity; export an earlier checkpoint, or "
            "train again with a lower optimizer.learning_rate"
        )


def _compare(
    outputs: StudentOutputs,
    found: NetworkOutputs,
    image: UInt8Array,
    score_scales: Sequence[tuple[float, float]],
    overlap_max: float | None,
) -> ParityReport:
    """Compare one frame, in the tasks that the network has."""
    report = ParityReport(1)
    class_map, rows, uncertainty = found.cells(0), found.rows(0), found.uncertainty
    if (class_map is None or uncertainty is None, rows is None) != (
        outputs.segmentation_logits is None,
        outputs.detection is None,
    ):
        raise ParityError(f"expected outputs of {' and '.join(outputs.tasks)}, got others; export the model again")
    if outputs.segmentation_logits is not None and class_map is not None and uncertainty is not None:
        reference = SegmentationReference.of(outputs.segmentation_logits)
        report += ParityReport(
            frames=0,
            wrong_cells=int(reference.wrong_cells(class_map).sum()),
            wrong_blocks=int(reference.wrong_blocks(uncertainty[0]).sum()),
            tied_cells=int(reference.tied_cells(class_map).sum()),
        )
    if outputs.detection is not None and rows is not None:
        expected = DetectionReference.of(outputs.detection, image.shape[0], image.shape[1], score_scales)
        unordered = int((np.diff(rows.scores) > SCORE_ROUNDING).sum())
        if overlap_max is not None:
            rows = rows.rows(rows.scores > 0)  # it gives the others a score of 0
            report += ParityReport(frames=0, repeated_rows=expected.repeated_rows(rows, overlap_max))
        foreign, missing = _compare_rows(expected, rows, overlap_max)
        report += ParityReport(frames=0, foreign_rows=foreign, missing_rows=missing, unordered_rows=unordered)
    return report


def _compare_rows(reference: DetectionReference, found: Detections, overlap_max: float | None) -> tuple[int, int]:
    """Return the number of rows without a cell, and of required cells without a row.

    Rows with nearly equal scores may change their order, so a row is not compared with the row of the same rank.
    Instead, each row is assigned to one cell that can have produced it. Cells that require a row are assigned first.
    """
    rows = zip(found.boxes_xyxy, found.scores, found.labels, strict=True)
    fits = np.stack([reference.cells_of(box, float(score), int(label)) for box, score, label in rows])
    required = reference.cells_above(float(found.scores[-1]))
    if overlap_max is not None:
        required &= ~reference.repeated_cells(float(found.scores[-1]), overlap_max)
    considered = np.flatnonzero(fits.any(axis=0))
    row, cell = _assign(fits[:, considered], required[considered])
    given = considered[cell]
    return len(fits) - len(row), int(required.sum() - required[given].sum())


def _assign(fits: NDArray[np.bool_], required: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of a largest matching within `fits` that has the most required columns."""
    cost = np.where(fits, np.where(required, 0.0, 1.0), _NO_CELL)
    row, column = linear_sum_assignment(cost)
    matched = fits[row, column]
    return row[matched], column[matched]
