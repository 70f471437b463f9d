"""NetworkOutputs: the outputs of one run of a network, and the names and types that the contract gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_kd_perception.structures import Detections, Float32Array, Int32Array, UInt8Array

OUTPUT_TYPES: dict[str, tuple[str, type[np.generic]]] = {
    "class_map": ("tensor(uint8)", np.uint8),
    "boxes": ("tensor(float)", np.float32),
    "scores": ("tensor(float)", np.float32),
    "labels": ("tensor(int32)", np.int32),
    "uncertainty": ("tensor(float)", np.float32),
}
FIELD_OF_OUTPUT = {name: name for name in OUTPUT_TYPES} | {"boxes": "boxes_xyxy"}
"""The attribute of `NetworkOutputs` for each output of the file."""


@dataclass(frozen=True)
class NetworkOutputs:
    """The outputs of one run of the network for N frames. Those of a task that the model does not do are None.

    Attributes:
        class_map: uint8 `[N, ceil(H/s), ceil(W/s)]`.
        boxes_xyxy: float32 `[N, K, 4]`, network-input pixels, best score first. May hold duplicates if the contract
            has a `nms_iou`.
        scores: float32 `[N, K]`.
        labels: int32 `[N, K]`.
        uncertainty: float32 `[N, ceil(H/32), ceil(W/32)]`.
    """

    class_map: UInt8Array | None = None
    boxes_xyxy: Float32Array | None = None
    scores: Float32Array | None = None
    labels: Int32Array | None = None
    uncertainty: Float32Array | None = None

    def rows(self, index: int) -> Detections | None:
        """Return all rows of the boxes of one frame, in network-input pixels. None without detection."""
        if self.boxes_xyxy is None or self.scores is None or self.labels is None:
            return None
        return Detections(self.boxes_xyxy[index], self.scores[index], self.labels[index])

    def cells(self, index: int) -> UInt8Array | None:
        """Return the class map of one frame, in cells of the network input. None without segmentation."""
        return None if self.class_map is None else self.class_map[index]
