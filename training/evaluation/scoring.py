"""Run a Perceiver on labelled frames and score its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.perceiver import DivergedOutput
from ros_kd_perception.structures import Frame, Perception
from training.data.sample import Sample
from training.errors import CheckpointError
from training.evaluation.class_places import ClassPlaces
from training.evaluation.metrics import DetectionMetrics, SegmentationMetrics

# Average precision ranks all detections, also those below the threshold of the contract, down to this score.
SCORE_FLOOR = 0.01


class Perceives(Protocol):
    """What perceives frames: a `Perceiver`, or what takes its place."""

    def warm_up(self) -> float:
        """Run until buffers and kernels are set up."""
        ...

    def perceive(self, frames: Sequence[Frame]) -> list[Perception]:
        """Return a perception of each frame, with boxes of scores down to SCORE_FLOOR."""
        ...


def perceive_sample(perceiver: Perceives, places: ClassPlaces, sample: Sample) -> Perception:
    """Perceive one frame and return what was perceived, with ids that count from 0.

    Raises:
        CheckpointError: The network's outputs contain NaN or infinity.
    """
    try:
        return places.of(perceiver.perceive([Frame("evaluation", 0, "", sample.image_bgr)])[0])
    except DivergedOutput as error:
        raise CheckpointError(f"{sample.name}: {error}; in training, lower the rate") from error


class FrameScorer:
    """Scores perceptions against samples, at the size of the source frames.

    The classes of the samples are those of the model, with ids that count from 0.

    Attributes:
        contract: Contract of the model with ids that count from 0; it gives the score threshold for duplicates.
        segmentation: Counts of pixels so far.
        detection: Detections and true boxes so far.
        times_ms: Inference time of each frame.
    """

    def __init__(self, contract: ModelContract) -> None:
        """Begin with no frames. The contract is the model's own."""
        self._places = ClassPlaces(contract)
        self.contract = self._places.contract
        self.segmentation = SegmentationMetrics(len(contract.segmentation_classes))
        self.detection = DetectionMetrics([info.name for info in self.contract.detection_classes])
        self.times_ms: list[float] = []

    def score(self, perceiver: Perceives, sample: Sample) -> Perception:
        """Perceive one frame, add it, and return what was perceived, with ids that count from 0.

        The Perceiver must have the score threshold SCORE_FLOOR.

        Raises:
            CheckpointError: The network's outputs contain NaN or infinity.
        """
        perception = perceive_sample(perceiver, self._places, sample)
        if perception.class_map is not None:
            self.segmentation.update(perception.class_map, sample.mask, sample.labeled_pixels)
        if perception.detections is not None:
            self.detection.update(perception.detections, sample, self.contract.score_threshold)
        self.times_ms.append(perception.timing.inference_ms)
        return perception

    def results(self) -> dict[str, Any]:
        """Return the figures of the tasks that the model has.

        Shares are 0..1, and a figure of something that does not occur is None.
        """
        found: dict[str, Any] = {"frames": len(self.times_ms)}
        if self.contract.class_map is not None:
            found |= self._segmentation_results()
        if self.contract.detections is not None:
            found["detection"] = self.detection.results()
        return found | {"inference_ms_median": float(np.median(self.times_ms)) if self.times_ms else None}

    def _segmentation_results(self) -> dict[str, Any]:
        iou = self.segmentation.iou()
        classes = self.contract.segmentation_classes
        return {
            "miou": self.segmentation.mean_iou(),
            "pixel_accuracy": self.segmentation.pixel_accuracy(),
            "iou": {info.name: None if np.isnan(iou[info.id]) else float(iou[info.id]) for info in classes},
        }
