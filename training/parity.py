"""Parity: does an exported student say on real frames what the network that was trained says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ros_kd_perception.onnx_model import NetworkOutputs, OnnxModel
from ros_kd_perception.structures import Float32Array, UInt8Array
from training.networks.deployed import block_uncertainty
from training.networks.heads import decode_boxes
from training.networks.student import Student, StudentOutputs

Int64Array = NDArray[np.int64]

# What float32 kernels that sum in another order may differ by; a wrong fold, transpose or top-K is far beyond.
CLASS_MAP_AGREEMENT_MIN = 0.9995
SCORE_DIFFERENCE_MAX = 1e-3
BOX_DIFFERENCE_MAX_PX = 0.05
UNCERTAINTY_DIFFERENCE_MAX = 1e-3


class ParityError(ValueError):
    """An export that does not say what its network says."""


@dataclass(frozen=True)
class ParityReport:
    """The worst of all frames: share of equal class-map cells, and largest differences of the rest, over all K rows."""

    frames: int
    class_map_agreement: float
    score_difference: float
    box_difference_px: float
    label_disagreements: int
    uncertainty_difference: float

    def failures(self) -> list[str]:
        """What is beyond its limit, in words; empty when the export is good."""
        checks = [
            (
                self.class_map_agreement >= CLASS_MAP_AGREEMENT_MIN,
                f"class maps agree in {self.class_map_agreement:.4%}",
            ),
            (self.score_difference <= SCORE_DIFFERENCE_MAX, f"scores differ by {self.score_difference:.2g}"),
            (self.box_difference_px <= BOX_DIFFERENCE_MAX_PX, f"boxes differ by {self.box_difference_px:.2g} px"),
            (self.label_disagreements == 0, f"{self.label_disagreements} boxes have another label"),
            (
                self.uncertainty_difference <= UNCERTAINTY_DIFFERENCE_MAX,
                f"uncertainty differs by {self.uncertainty_difference:.2g}",
            ),
        ]
        return [words for good, words in checks if not good]  # "not good" also catches NaN

    def table(self) -> str:
        """The figures beside their limits, one a line."""
        rows = [
            ("frames", f"{self.frames}", ""),
            ("class map agreement", f"{self.class_map_agreement:.4%}", f"at least {CLASS_MAP_AGREEMENT_MIN:.2%}"),
            ("largest score difference", f"{self.score_difference:.1e}", f"at most {SCORE_DIFFERENCE_MAX}"),
            ("largest box difference", f"{self.box_difference_px:.1e} px", f"at most {BOX_DIFFERENCE_MAX_PX} px"),
            ("labels that differ", f"{self.label_disagreements}", "none"),
            (
                "largest uncertainty difference",
                f"{self.uncertainty_difference:.1e}",
                f"at most {UNCERTAINTY_DIFFERENCE_MAX}",
            ),
        ]
        return "\n".join(f"  {name:32}{figure:12}{limit}".rstrip() for name, figure, limit in rows)


@torch.no_grad()
def measure_parity(student: Student, model: OnnxModel, images_bgr: Sequence[UInt8Array]) -> ParityReport:
    """Run both on network inputs, uint8 [H, W, 3], and compare.

    The reference is the student as trained: branches unfused, scale not folded, every cell decoded.

    Raises:
        ValueError: no images.
    """
    if not images_bgr:
        raise ValueError("parity needs at least one frame to compare on, got none; give a folder of frames")
    student = student.eval()
    device = next(student.parameters()).device
    frames = []
    for image in images_bgr:
        inputs = torch.from_numpy(np.ascontiguousarray(image[None])).to(device).permute(0, 3, 1, 2).float() / 255.0
        reference = _Reference.of(student(inputs), height=image.shape[0], width=image.shape[1])
        frames.append(_compare(reference, model.run(np.ascontiguousarray(image[None]))))
    return ParityReport(
        frames=len(frames),
        class_map_agreement=min(frame.class_map_agreement for frame in frames),
        score_difference=max(frame.score_difference for frame in frames),
        box_difference_px=max(frame.box_difference_px for frame in frames),
        label_disagreements=sum(frame.label_disagreements for frame in frames),
        uncertainty_difference=max(frame.uncertainty_difference for frame in frames),
    )


@dataclass(frozen=True)
class _Reference:
    """What the trained network says of one frame, for every cell: score [A], label [A], box [A, 4]."""

    class_map: UInt8Array
    uncertainty: Float32Array
    scores: Float32Array
    labels: Int64Array
    boxes: Float32Array

    @classmethod
    def of(cls, outputs: StudentOutputs, height: int, width: int) -> _Reference:
        detection = outputs.detection
        scores, labels = detection.flat_peak_logits()[0].sigmoid().max(dim=1)
        boxes = decode_boxes(detection.flat_distance_logits()[0], detection.cells())
        limit = boxes.new_tensor([width, height, width, height])
        return cls(
            class_map=outputs.segmentation_logits[0].argmax(dim=0).byte().cpu().numpy(),
            uncertainty=block_uncertainty(outputs.segmentation_logits)[0].cpu().numpy(),
            scores=scores.cpu().numpy(),
            labels=labels.cpu().numpy(),
            boxes=boxes.clamp(min=0).minimum(limit).cpu().numpy(),
        )


def _compare(reference: _Reference, found: NetworkOutputs) -> ParityReport:
    """Compare one frame.

    Scores are compared in rank. Boxes are not, for ranks of nearly equal scores may change places: each row is held
    against the cell that it fits best in box, score and label together.
    """
    found_boxes, found_scores, found_labels = found.boxes_xyxy[0], found.scores[0], found.labels[0]
    best_scores = np.sort(reference.scores)[::-1][: len(found_scores)]
    box_difference = np.abs(found_boxes[:, None] - reference.boxes[None]).max(axis=2)
    score_difference = np.abs(found_scores[:, None] - reference.scores[None])
    other_label = found_labels[:, None] != reference.labels[None]
    misfit = box_difference / BOX_DIFFERENCE_MAX_PX + score_difference / SCORE_DIFFERENCE_MAX + 10.0 * other_label
    cell = misfit.argmin(axis=1)
    row = np.arange(len(cell))
    return ParityReport(
        frames=1,
        class_map_agreement=float(np.mean(reference.class_map == found.class_map[0])),
        score_difference=float(max(np.abs(best_scores - found_scores).max(), score_difference[row, cell].max())),
        box_difference_px=float(box_difference[row, cell].max()),
        label_disagreements=int(other_label[row, cell].sum()),
        uncertainty_difference=float(np.abs(reference.uncertainty - found.uncertainty[0]).max()),
    )
