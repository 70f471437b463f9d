"""Draws the labels of a frame on a small picture of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.drawing.mosaic import shrink
from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.model.contract import ClassInfo, ClassMapSpec, DetectionSpec, InputSpec, ModelContract
from ros_kd_perception.structures import Detections, Perception, Timing
from training.data.sample import Sample
from training.label_sets.label_set import UNLABELED_ID, LabelSet

PICTURE_WIDTH_PX, PICTURE_HEIGHT_MAX_PX = 480, 480
JPEG_QUALITY = 78
_IGNORED_BGR = (255, 255, 255)
_NO_CLASSES = (ClassInfo(0, "unknown", (128, 128, 128)),)  # of a task that the student does not have


def contract_of(label_set: LabelSet) -> ModelContract:
    """Return a contract with the classes of a label set, as drawing needs it."""
    classes, boxes = label_set.segmentation_classes or _NO_CLASSES, label_set.detection_classes or _NO_CLASSES
    return ModelContract(
        label_set.name,
        "",
        "fp32",
        InputSpec(32, 32),
        ClassMapSpec(1, UNLABELED_ID, classes),
        DetectionSpec(1, 0, boxes),
    )


def draw_labels(sample: Sample, contract: ModelContract) -> NDArray[np.uint8]:
    """Return a small picture of a frame, uint8 (h, w, 3) BGR.

    Classes are tints, boxes have their names, and regions that teach nothing are hatched in white. Pixels without a
    class keep their colour.
    """
    height, width = sample.mask.shape
    scale = min(PICTURE_WIDTH_PX / width, PICTURE_HEIGHT_MAX_PX / height)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    scales = np.array([columns / width, rows / height] * 2, np.float32)
    boxes = Detections(
        sample.boxes_xyxy * scales, np.ones(len(sample.labels), np.float32), sample.labels.astype(np.int32)
    )
    mask = np.asarray(cv2.resize(sample.mask, (columns, rows), interpolation=cv2.INTER_NEAREST), np.uint8)
    small = shrink(sample.image_bgr, rows, columns)
    if sample.ignored_xyxy is not None:
        _hatch(small, sample.ignored_xyxy * scales)
    nothing = np.zeros((1, 1), np.float32)
    labels = Perception("", 0, "", mask, boxes, nothing, Timing(0.0, 0.0, 0.0))
    return draw_overlay(small, labels, contract, show_scores=False)


def jpeg_of(picture_bgr: NDArray[np.uint8]) -> bytes:
    """Return a picture as JPEG."""
    _, encoded = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _hatch(picture_bgr: NDArray[np.uint8], regions_xyxy: NDArray[np.float32]) -> None:
    """Draw slanted white lines into regions of a picture, and a frame around each."""
    height, width = picture_bgr.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    lines = (rows + columns) % 8 == 0
    for left, top, right, bottom in regions_xyxy.round().astype(int).tolist():
        area = picture_bgr[max(0, top) : bottom, max(0, left) : right]
        area[lines[max(0, top) : bottom, max(0, left) : right]] = _IGNORED_BGR
        cv2.rectangle(picture_bgr, (left, top), (right - 1, bottom - 1), _IGNORED_BGR, 1)
