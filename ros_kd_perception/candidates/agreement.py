"""How far a shadow model agrees with the active one on a frame that both have seen; knows no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Detections, UInt8Array

MATCH_IOU = 0.5
_NO_CLASS = 0xFFFF  # no id of a class map is this


@dataclass(frozen=True)
class ClassNames:
    """Names by id, so that models with other ids or other classes can be compared.

    Attributes:
        class_map: of the mask, the unlabeled id included.
        detections: of the boxes.
    """

    class_map: Mapping[int, str]
    detections: Mapping[int, str]

    @classmethod
    def of(cls, contract: ModelContract) -> ClassNames:
        """Those of a contract."""
        names = {c.id: c.name for c in contract.class_map.classes} | {contract.class_map.unlabeled_id: ""}
        return cls(names, {c.id: c.name for c in contract.detections.classes})

    def to_json(self) -> dict[str, list[list[Any]]]:
        """As JSON can hold it."""
        return {
            "class_map": [list(item) for item in self.class_map.items()],
            "detections": [list(item) for item in self.detections.items()],
        }

    @classmethod
    def from_json(cls, rows: Mapping[str, list[list[Any]]]) -> ClassNames:
        """The inverse of `to_json`."""
        return cls(*({int(key): str(name) for key, name in rows[table]} for table in ("class_map", "detections")))


@dataclass(frozen=True)
class Agreement:
    """Figures of one frame.

    Attributes:
        class_map_agreement: share of the pixels to which both give a class of the same name.
        active_boxes: of the active model.
        shadow_boxes: of the shadow.
        matched_boxes: pairs of the same class name with an IoU of at least `MATCH_IOU`, each box in one pair at most.
        mean_iou: of the pairs, None without any.
        inference_ms: of the shadow, on one thread of the lowest priority.
    """

    class_map_agreement: float
    active_boxes: int
    shadow_boxes: int
    matched_boxes: int
    mean_iou: float | None
    inference_ms: float


def map_agreement(active: UInt8Array, shadow: UInt8Array, active_names: ClassNames, shadow_names: ClassNames) -> float:
    """Share of pixels of the same class name; a class that only the shadow has never agrees."""
    id_of_name = {name: class_id for class_id, name in active_names.class_map.items()}
    active_id_of = np.full(256, _NO_CLASS, np.uint16)
    for class_id, name in shadow_names.class_map.items():
        active_id_of[class_id] = id_of_name.get(name, _NO_CLASS)
    return float(np.mean(active_id_of[shadow] == active))


def match_boxes(
    active: Detections, shadow: Detections, active_names: ClassNames, shadow_names: ClassNames
) -> list[float]:
    """IoU of each pair, best first: the best remaining pair of the same class name, until none has `MATCH_IOU`."""
    if not len(active.labels) or not len(shadow.labels):
        return []
    iou = iou_xyxy(active.boxes_xyxy, shadow.boxes_xyxy)
    names_a = np.array([active_names.detections.get(int(label), "?") for label in active.labels])
    names_s = np.array([shadow_names.detections.get(int(label), "??") for label in shadow.labels])
    iou = np.where(names_a[:, None] == names_s[None, :], iou, 0)
    pairs = []
    while (best := float(iou.max())) >= MATCH_IOU:
        row, column = np.unravel_index(int(iou.argmax()), iou.shape)
        iou[row, :] = 0
        iou[:, column] = 0
        pairs.append(best)
    return pairs
