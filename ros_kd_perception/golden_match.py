"""How far what a network says of a golden frame is from what it must say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.model_contract import GoldenLimits
from ros_kd_perception.structures import Detections, Float32Array, UInt8Array

SCORE_TOLERANCE = 0.05
"""What a score may differ by on another provider or precision, whose sums round otherwise."""

BOX_MARGIN_PX = 0.5
"""What boxes are grown by on each side before they are compared: a fraction of a pixel is no other place.

Without it, boxes of no width, which lie at the edge of the input, would not even agree with themselves.
"""


@dataclass(frozen=True)
class GoldenResult:
    """The worst of the golden frames.

    Attributes:
        class_map_agreement: share of equal cells of the class map, 0..1.
        box_iou: of the expected boxes with the best found one of their class, all grown by BOX_MARGIN_PX, 0..1.
        score_difference: between an expected box and the row of its class, at its place, that is nearest in score.
        unexpected_boxes: rows that would be published for sure and match no expected box.
    """

    class_map_agreement: float = 1.0
    box_iou: float = 1.0
    score_difference: float = 0.0
    unexpected_boxes: int = 0

    def within(self, limits: GoldenLimits) -> bool:
        """Whether all of it is as good as the contract asks; NaN is not."""
        return (
            self.class_map_agreement >= limits.class_map_agreement_min
            and self.box_iou >= limits.box_iou_min
            and self.score_difference <= SCORE_TOLERANCE
            and self.unexpected_boxes == 0
        )

    def worse(self, other: GoldenResult) -> GoldenResult:
        """The worse of each figure."""
        return GoldenResult(
            min(self.class_map_agreement, other.class_map_agreement),
            min(self.box_iou, other.box_iou),
            max(self.score_difference, other.score_difference),
            max(self.unexpected_boxes, other.unexpected_boxes),
        )

    def words(self) -> str:
        """All figures, for a refusal."""
        return (
            f"{self.class_map_agreement:.2%} and IoU {self.box_iou:.3f}, scores off by {self.score_difference:.3f} and "
            f"{self.unexpected_boxes} unexpected boxes"
        )


def compare_boxes(
    expected: Detections, found: Detections, box_iou_min: float, score_threshold: float
) -> tuple[float, float, int]:
    """IoU, score difference and number of unexpected boxes, as in `GoldenResult`.

    Args:
        expected: the boxes at or above the score threshold.
        found: every output row, those under the score threshold too, so that a score that falls from 0.301 to 0.299
            on another provider is no disagreement.
        box_iou_min: what counts as the same place.
        score_threshold: of the contract; a box that comes up to it from just below is no disagreement either.
    """
    grown_iou = iou_xyxy(_grown(expected.boxes_xyxy), _grown(found.boxes_xyxy))
    iou = np.where(expected.labels[:, None] == found.labels[None, :], grown_iou, 0)
    apart = np.abs(expected.scores[:, None] - found.scores[None, :])
    same_place = iou >= box_iou_min
    sure = found.scores >= score_threshold + SCORE_TOLERANCE
    matched = (same_place & (apart <= SCORE_TOLERANCE)).any(axis=0)
    # NumPy's min and max hand NaN on, so that it fails; Python's may lose it.
    worst_iou = iou.max(axis=1, initial=0.0).min(initial=1.0)
    nearest = np.where(same_place, apart, 1.0).min(axis=1, initial=1.0)
    return float(worst_iou), float(nearest.max(initial=0.0)), int((sure & ~matched).sum())


def _grown(boxes_xyxy: Float32Array) -> Float32Array:
    margin = np.array([-BOX_MARGIN_PX, -BOX_MARGIN_PX, BOX_MARGIN_PX, BOX_MARGIN_PX], np.float32)
    return np.asarray(boxes_xyxy + margin, np.float32)


def class_map_agreement(expected: UInt8Array, found: UInt8Array) -> float:
    """Share of equal cells, 0..1."""
    return float(np.mean(expected == found))


def iou_xyxy(boxes_a: Float32Array, boxes_b: Float32Array) -> Float32Array:
    """Intersection over union of every pair: `[n, 4]` and `[m, 4]` xyxy -> float32 `[n, m]`."""
    corner_min = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    corner_max = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    intersection = (corner_max - corner_min).clip(min=0).prod(axis=2)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2]).clip(min=0).prod(axis=1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2]).clip(min=0).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9), np.float32)
