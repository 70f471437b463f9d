"""From what teachers say about a whole frame to what is kept of it, and back from a batch of kept words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.batch import TaughtBatch
from training.data.taught_frame import FrameBoxes, TaughtFrame
from training.label_sets.label_set import LabelSet
from training.teachers.labeling import shares_of
from training.teachers.seen import Boxes
from training.teachers.taught import Taught, TaughtBoxes, TaughtPixels


def frame_of(taught: Taught, student: LabelSet) -> TaughtFrame:
    """Return what teachers say about a single image, in the memory of the CPU.

    Args:
        taught: What they say about a batch of one image.
        student: Classes of the student.
    """
    pixels, boxes = taught.pixels, taught.boxes
    probabilities = None
    known = np.zeros(len(student.segmentation_classes), np.bool_)
    if pixels is not None:
        shares = shares_of(pixels)[0]
        if pixels.counts is not None:
            shares = shares * pixels.counts[0]
        probabilities = np.ascontiguousarray(shares.permute(1, 2, 0).float().cpu().numpy())
        known = pixels.known.cpu().numpy()
    nothing = FrameBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    if boxes is None:
        return TaughtFrame(probabilities, nothing, nothing, known, np.zeros(0, np.bool_))
    return TaughtFrame(
        probabilities, _kept(boxes.objects[0]), _kept(boxes.ignored[0]), known, boxes.known.cpu().numpy()
    )


def taught_of(batch: TaughtBatch) -> Taught:
    """Return what was kept about the frames of a batch in the form in which teachers say it."""
    pixels = boxes = None
    if batch.logits is not None:
        pixels = TaughtPixels(batch.logits, batch.counts, batch.known_pixels)
    if len(batch.known_boxes):
        objects = [Boxes.of(*parts) for parts in zip(batch.boxes_xyxy, batch.labels, batch.scores, strict=True)]
        ignored = [
            Boxes.of(xyxy, labels, torch.zeros_like(xyxy[:, 0]))
            for xyxy, labels in zip(batch.ignored_xyxy, batch.ignored_labels, strict=True)
        ]
        boxes = TaughtBoxes(objects, ignored, batch.known_boxes)
    return Taught(pixels, boxes)


def _kept(boxes: Boxes) -> FrameBoxes:
    def array(values: Tensor) -> NDArray[Any]:
        return values.cpu().numpy()

    return FrameBoxes(array(boxes.xyxy.float()), array(boxes.ids.long()), array(boxes.scores.float()))
