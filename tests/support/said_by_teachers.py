"""What teachers say about a batch, made of the outputs of a network of ours."""

from __future__ import annotations

import torch
from torch import Tensor

from training.networks.student import StudentOutputs
from training.teachers.seen import Boxes
from training.teachers.taught import Taught, TaughtBoxes, TaughtPixels


def taught_by(outputs: StudentOutputs) -> Taught:
    """Return the words of a network that knows all classes, with two sure boxes and a doubtful one in each frame."""
    assert outputs.segmentation_logits is not None
    frames, classes = outputs.segmentation_logits.shape[:2]
    objects, ignored = [], []
    for frame in range(frames):
        shift = float(frame)
        objects.append(boxes([[4 + shift, 4, 40, 40], [30, 10 + shift, 80, 60]], [frame % 2, 1]))
        ignored.append(boxes([[60, 0, 90, 20 + shift]], [-1]))
    known = torch.ones(classes, dtype=torch.bool)
    assert outputs.detection is not None
    labels = torch.ones(outputs.detection.class_logits[0].shape[1], dtype=torch.bool)
    return Taught(
        TaughtPixels(outputs.segmentation_logits.detach(), None, known), TaughtBoxes(objects, ignored, labels), outputs
    )


def boxes(xyxy: list[list[float]], ids: list[int], score: float = 0.8) -> Boxes:
    """Return boxes of one frame with one score."""
    places: Tensor = torch.tensor(xyxy, dtype=torch.float32).reshape(-1, 4)
    return Boxes.of(places, torch.tensor(ids, dtype=torch.int64), torch.full((len(ids),), score))
