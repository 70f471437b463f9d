"""Compares the results of a shadow model with those of the active model on the same frame. Does not use ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ros_kd_perception.model.boxes import iou_xyxy, match_by_iou
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Detections, Perception, UInt8Array

MATCH_IOU = 0.5
_NO_CLASS = 0xFFFF  # ids of a class map are at most 255


@dataclass(frozen=True)
class ClassNames:
    """The class names of a model by id. They allow a comparison of models with different ids or classes.

    Attributes:
        class_map: Names for the ids of the class map, including the unlabeled id. Empty without segmentation.
        detections: Names for the ids of the boxes. Empty without detection.
    """

    class_map: Mapping[int, str]
    detections: Mapping[int, str]

    @classmethod
    def of(cls, contract: ModelContract) -> ClassNames:
        """Return the class names of a contract."""
        names = {c.id: c.name for c in contract.segmentation_classes}
        if contract.class_map is not None:
            names[contract.unlabeled_id] = ""
        return cls(names, {c.id: c.name for c in contract.detection_classes})

    def to_json(self) -> dict[str, list[list[Any]]]:
        """Return lists of `[id, name]` rows, because JSON keys cannot be integers."""
        return {
            "class_map": [list(item) for item in self.class_map.items()],
            "detections": [list(item) for item in self.detections.items()],
        }

    @classmethod
    def from_json(cls, rows: Mapping[str, list[list[Any]]]) -> ClassNames:
        """Build the class names from the return value of `to_json`."""
        return cls(*({int(key): str(name) for key, name in rows[table]} for table in ("class_map", "detections")))


@dataclass(frozen=True)
class Agreement:
    """How far the two models agree on one frame. The figures of a task that one of them does not do are None.

    Attributes:
        class_map_agreement: Share of pixels to which both models give the same class name, 0..1.
        active_boxes: Number of boxes of the active model.
        shadow_boxes: Number of boxes of the shadow model.
        matched_boxes: Number of pairs with the same class name and an IoU of at least `MATCH_IOU`. A box is in one pair
            at most.
        mean_iou: Mean IoU of the pairs. None without pairs.
        inference_ms: Inference time of the shadow model, on one thread at the lowest priority.
    """

    class_map_agreement: float | None
    active_boxes: int | None
    shadow_boxes: int | None
    matched_boxes: int | None
    mean_iou: float | None
    inference_ms: float

    @classmethod
    def of(
        cls,
        active: tuple[UInt8Array | None, Detections | None],
        shadow: Perception,
        active_names: ClassNames,
        shadow_names: ClassNames,
    ) -> Agreement:
        """Compare class map and boxes of the active model with the shadow model's results for the same frame."""
        active_map, active_boxes = active
        shares: float | None = None
        pairs: list[float] | None = None
        if active_map is not None and shadow.class_map is not None:
            shares = map_agreement(active_map, shadow.class_map, active_names, shadow_names)
        if active_boxes is not None and shadow.detections is not None:
            pairs = match_boxes(active_boxes, shadow.detections, active_names, shadow_names)
        return cls(
            class_map_agreement=shares,
            active_boxes=None if pairs is None or active_boxes is None else len(active_boxes),
            shadow_boxes=None if pairs is None or shadow.detections is None else len(shadow.detections),
            matched_boxes=None if pairs is None else len(pairs),
            mean_iou=sum(pairs) / len(pairs) if pairs else None,
            inference_ms=shadow.timing.inference_ms,
        )


def map_agreement(active: UInt8Array, shadow: UInt8Array, active_names: ClassNames, shadow_names: ClassNames) -> float:
    """Return the share of pixels with the same class name. A class that only the shadow model has never agrees."""
    id_of_name = {name: class_id for class_id, name in active_names.class_map.items()}
    active_id_of = np.full(256, _NO_CLASS, np.uint16)
    for class_id, name in shadow_names.class_map.items():
        active_id_of[class_id] = id_of_name.get(name, _NO_CLASS)
    return float(np.mean(active_id_of[shadow] == active))


def match_boxes(
    active: Detections, shadow: Detections, active_names: ClassNames, shadow_names: ClassNames
) -> list[float]:
    """Match boxes of the same class name greedily, best IoU first, down to `MATCH_IOU`.

    Returns:
        The IoU of each pair, best first.
    """
    if not len(active.labels) or not len(shadow.labels):
        return []
    iou = iou_xyxy(active.boxes_xyxy, shadow.boxes_xyxy)
    names_a = np.array([active_names.detections.get(int(label), "?") for label in active.labels])
    names_s = np.array([shadow_names.detections.get(int(label), "??") for label in shadow.labels])
    iou = np.where(names_a[:, None] == names_s[None, :], iou, np.float32(0))
    return [float(iou[pair]) for pair in match_by_iou(iou, MATCH_IOU)]
