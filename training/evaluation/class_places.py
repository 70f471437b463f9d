"""Numbers the classes of a model from 0, as metrics count them. The ids of adopted files may have gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ros_kd_perception.model.contract import ClassInfo, ModelContract
from ros_kd_perception.structures import Perception, UInt8Array
from training.label_sets.label_set import UNLABELED_ID


class ClassPlaces:
    """Replaces the ids of a model's classes by their places in the order of the ids.

    Attributes:
        contract: Contract of the model with the places as ids.
    """

    def __init__(self, contract: ModelContract) -> None:
        class_map, detections = contract.class_map, contract.detections
        self.contract = replace(
            contract,
            class_map=class_map and replace(class_map, classes=_numbered(class_map.classes)),
            detections=detections and replace(detections, classes=_numbered(detections.classes)),
        )
        self._masks = _places(contract.segmentation_classes)
        self._boxes = _places(contract.detection_classes)

    def of(self, perception: Perception) -> Perception:
        """Return a perception of the model with places for ids; pixels of no class are 255."""
        class_map, found = perception.class_map, perception.detections
        return replace(
            perception,
            class_map=None if class_map is None else self._masks[class_map],
            detections=found and replace(found, labels=self._boxes[found.labels].astype(np.int32)),
        )


def _numbered(classes: Sequence[ClassInfo]) -> tuple[ClassInfo, ...]:
    ordered = sorted(classes, key=lambda info: info.id)
    return tuple(replace(info, id=place) for place, info in enumerate(ordered))


def _places(classes: Sequence[ClassInfo]) -> UInt8Array:
    table = np.full(UNLABELED_ID + 1, UNLABELED_ID, np.uint8)
    for place, info in enumerate(sorted(classes, key=lambda info: info.id)):
        table[info.id] = place
    return table
