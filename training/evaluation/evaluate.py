"""Score models on labelled frames: figures of the whole set, and counts of each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Detections, Perception
from ros_kd_perception.system.output_paths import make_folder
from training.data.readers.frame_folder import FrameFolder
from training.data.sample import Sample
from training.evaluation.coverage import not_scored
from training.evaluation.frame_recorder import FrameRecorder
from training.evaluation.models import EvaluatedModel
from training.evaluation.scoring import FrameScorer
from training.whole_files import write_bytes

MARGIN_PX = 4


@dataclass
class Evaluation:
    """One model on all frames.

    Attributes:
        model: The model.
        frames: The frames, with labels in its classes.
        scorer: Figures of the whole set.
        recorder: Counts of each frame.
    """

    model: EvaluatedModel
    frames: FrameFolder
    scorer: FrameScorer
    recorder: FrameRecorder

    @classmethod
    def of(cls, model: EvaluatedModel, source: FrameFolder) -> Evaluation:
        """Begin with no frames.

        Raises:
            RecipeError: A class of the source maps to nothing in the classes of the model.
        """
        scorer = FrameScorer(model.contract)
        return cls(model, source.for_student(model.label_set), scorer, FrameRecorder(scorer.contract))

    def add(self, number: int) -> tuple[Sample, Perception]:
        """Perceive a frame, count it and return it, with ids that count from 0."""
        sample = self.frames[number]
        perception = self.scorer.score(self.model.perceiver, sample)
        self.recorder.add(perception, sample)
        return sample, perception

    def results(self) -> dict[str, Any]:
        """Return the figures of the whole set; `not_scored` describes the key of its name."""
        return self.scorer.results() | {"not_scored": not_scored(self.frames.mapping)}


def evaluate(model: EvaluatedModel, source: FrameFolder, pictures: PictureWriter | None = None) -> dict[str, Any]:
    """Score all frames of a source. `FrameScorer.results` describes the figures, `not_scored` the key of its name.

    The labels are mapped to the classes of the model by name.

    Raises:
        RecipeError: A class of the source maps to nothing in the classes of the model.
    """
    return evaluate_side_by_side({"": model}, source, pictures)[""].results()


def evaluate_side_by_side(
    models: Mapping[str, EvaluatedModel], source: FrameFolder, pictures: PictureWriter | None = None
) -> dict[str, Evaluation]:
    """Run all models on each frame in turn, so that a busy machine slows all of them alike.

    Args:
        models: The models by name.
        source: Labelled frames. The labels are mapped to the classes of each model by name.
        pictures: Writes pictures of the outputs of the last model.

    Raises:
        CheckpointError: The outputs of a network contain NaN or infinity.
        RecipeError: A class of the source maps to nothing in the classes of a model.
    """
    evaluations = {name: Evaluation.of(model, source) for name, model in models.items()}
    for model in models.values():
        model.perceiver.warm_up()
    for number in tqdm(range(len(source)), desc="evaluating", unit="frame", disable=None):
        for evaluation in evaluations.values():
            sample, perception = evaluation.add(number)
        if pictures is not None:
            pictures.write(number, sample, perception, evaluation.scorer.contract)
    return evaluations


class PictureWriter:
    """Writes every n-th frame: the model's output on the left, the labels on the right."""

    def __init__(self, folder: Path, frames: int, count: int) -> None:
        self.folder = folder
        self._every = max(1, frames // max(1, count))
        make_folder(folder)

    def write(self, number: int, sample: Sample, perception: Perception, contract: ModelContract) -> None:
        """Write the picture of a frame if it is one of those."""
        if number % self._every:
            return
        seen = reported(perception, contract)
        truth = true_perception(sample, perception)
        left, right = (draw_overlay(sample.image_bgr, view, contract) for view in (seen, truth))
        gap = np.full((left.shape[0], MARGIN_PX, 3), 255, np.uint8)
        path = self.folder / f"{sample.name}.jpg"
        _, encoded = cv2.imencode(".jpg", np.hstack([left, gap, right]), [cv2.IMWRITE_JPEG_QUALITY, 90])
        write_bytes(path, encoded.tobytes())


def true_perception(sample: Sample, perception: Perception) -> Perception:
    """Return the labels of a frame in the form of what was perceived on it, for drawing."""
    truth = Detections(sample.boxes_xyxy, np.ones(len(sample.labels), np.float32), sample.labels.astype(np.int32))
    return replace(
        perception,
        class_map=None if perception.class_map is None else sample.mask,
        detections=None if perception.detections is None else truth,
    )


def reported(perception: Perception, contract: ModelContract) -> Perception:
    """Return a perception with the boxes that the model reports by default."""
    found = perception.detections
    return perception if found is None else replace(perception, detections=found.at_least(contract.score_threshold))
