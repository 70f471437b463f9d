"""Settings of an export. Commands read them before torch is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ros_kd_perception.model.contract import (
    UNCERTAINTY_BLOCK_PX,
    ClassMapSpec,
    DetectionSpec,
    GoldenLimits,
    InputSpec,
    ModelContract,
)
from ros_kd_perception.model.contract_notes import DROPS_BOXES_ABOVE_IOU, LOOKS_AT_HALF_SIZE
from training.config.network_input import usual_detections
from training.label_sets.label_set import UNLABELED_ID, LabelSet
from training.label_sets.score_scales import score_scales_of
from training.networks.strides import SEGMENTATION_STRIDE

# Of a small class map, the allowed share is less than one cell. This many cells may always differ on another provider,
# because classes can be a tie.
GOLDEN_TIED_CELLS = 4

HALF_VIEW_OVERLAP_MAX = 0.6
"""Of two views, the same object has boxes that differ more than those of one view do. models/README.md has figures."""

INT8_LIMITS = GoldenLimits(class_map_agreement_min=0.99, box_iou_min=0.9, score_difference_max=0.1)
"""Limits of a quantised file. A GPU computes it in floats and rounds some cells to another class; arithmetic that
overflows on a CPU is off by more. docs/model_contract.md has the measurements."""


@dataclass(frozen=True)
class ExportSettings:
    """Values of the contract that the network itself does not determine.

    Attributes:
        label_set: Classes of the student.
        height, width: Size of the network input in pixels, multiples of 32.
        max_detections: Number of rows of `boxes`; None = 100, or the number of cells of a smaller input.
        score_threshold: Rows with at least this score count by default, 0..1.
        provenance, metrics: Copied into the contract; provenance has `notes`, too.
        confidence: Copied into the contract, too. The scales of scores in it are applied by the file.
        half_view: The file looks for boxes at half the size of its input, too (`training.networks.views`).
        overlap_max: IoU above which the file drops the lower-scored of two boxes of one class, 0..1; None = it drops
            none, but with `half_view` those above HALF_VIEW_OVERLAP_MAX, because both views may find an object.
    """

    label_set: LabelSet
    name: str = "student"
    version: str = "0.1.0"
    height: int = 384
    width: int = 640
    max_detections: int | None = None
    score_threshold: float = 0.3
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    confidence: Mapping[str, Any] = field(default_factory=dict)
    half_view: bool = False
    overlap_max: float | None = None

    @property
    def rows(self) -> int:
        """Number of rows of `boxes`."""
        return usual_detections(self.height, self.width) if self.max_detections is None else self.max_detections

    @property
    def score_scales(self) -> tuple[tuple[float, float], ...]:
        """Scale and shift of the logit of each class's scores; empty if no class has any."""
        return score_scales_of(self.confidence, self.label_set)

    @property
    def dropped_overlap(self) -> float | None:
        """IoU above which the file drops boxes; None if it drops none."""
        return HALF_VIEW_OVERLAP_MAX if self.half_view and self.overlap_max is None else self.overlap_max

    @property
    def notes(self) -> dict[str, Any]:
        """What the graph does beside running the network, for the provenance of the contract; absent if nothing."""
        if not self.label_set.detection_classes:
            return {}
        drops = {} if self.dropped_overlap is None else {DROPS_BOXES_ABOVE_IOU: self.dropped_overlap}
        return drops | ({LOOKS_AT_HALF_SIZE: True} if self.half_view else {})

    def contract(self) -> ModelContract:
        """Return the contract of an fp32 export.

        Raises:
            ValueError: A value is out of range, or a side is not a multiple of the network's coarsest stride.
        """
        multiple = 2 * UNCERTAINTY_BLOCK_PX if self.half_view else UNCERTAINTY_BLOCK_PX
        if self.height % multiple or self.width % multiple:
            raise ValueError(
                f"expected input sides in multiples of {multiple} px for a student"
                f"{' that looks at half of them, too' if self.half_view else ''}, "
                f"got {self.height}x{self.width}; 384x640 is usual"
            )
        masks, boxes = self.label_set.segmentation_classes, self.label_set.detection_classes
        if self.half_view and not boxes:
            raise ValueError("expected a student with boxes to look at half the size, got one of masks alone")
        return ModelContract(
            name=self.name,
            version=self.version,
            precision="fp32",
            input=InputSpec(height=self.height, width=self.width),
            class_map=ClassMapSpec(SEGMENTATION_STRIDE, UNLABELED_ID, masks, self.label_set.drivable)
            if masks
            else None,
            detections=DetectionSpec(self.rows, self.score_threshold, boxes) if boxes else None,
            golden=golden_limits((self.height // SEGMENTATION_STRIDE) * (self.width // SEGMENTATION_STRIDE)),
            provenance={**self.provenance, **self.notes},
            metrics=self.metrics,
            confidence=self.confidence,
        )


def golden_limits(cells: int, precision: str = "fp32") -> GoldenLimits:
    """Return the limits for a file with so many cells of the class map; a few cells may differ in a small one.

    Args:
        cells: Cells of the class map; 0 without segmentation.
        precision: `fp32`, `fp16` or `int8`.
    """
    usual = INT8_LIMITS if precision == "int8" else GoldenLimits()
    share = max(0.0, 1 - GOLDEN_TIED_CELLS / cells) if cells > 0 else 0.0
    return replace(usual, class_map_agreement_min=min(usual.class_map_agreement_min, math.floor(share * 1e4) / 1e4))
