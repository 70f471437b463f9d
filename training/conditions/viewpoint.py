"""Other views of a real frame: the camera turned, or with another focal length. Masks and boxes move with the picture.

Both need no depth: a turn of the camera is the homography K R K^-1 (R. Hartley and A. Zisserman, "Multiple View
Geometry in Computer Vision", 2004, section 8.4), another focal length is K' K^-1. A camera at another place does need
depth. Only the renderer makes that view.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.camera import rotation_x, rotation_z
from training.conditions.distance import focal_px
from training.conditions.light import blurred
from training.data.augmentation import PAD_VALUE
from training.data.box_geometry import area, whole_enough
from training.data.sample import FULL_CONFIDENCE, Sample
from training.label_sets.label_set import UNLABELED_ID

VISIBLE_SHARE_MIN = 0.25  # of a box; less becomes an ignored region, and so does one with a side below 3 pixels
_ANGLES = np.linspace(0, 2 * np.pi, 64, endpoint=False)

Matrix = NDArray[np.float64]


def pitched(sample: Sample, degrees: float, rng: np.random.Generator) -> Sample:
    """Return a frame of a camera that looks up or down by some degrees; the frame decides which."""
    sign = rng.choice((-1.0, 1.0))
    return warped(sample, _turned(sample, rotation_x(float(np.radians(sign * degrees)))))


def rolled(sample: Sample, degrees: float, rng: np.random.Generator) -> Sample:
    """Return a frame of a camera that leans to a side by some degrees; the frame decides to which."""
    sign = rng.choice((-1.0, 1.0))
    return warped(sample, _turned(sample, rotation_z(float(np.radians(sign * degrees)))))


def zoomed(sample: Sample, factor: float, rng: np.random.Generator) -> Sample:
    """Return a frame of a camera with another focal length, by a factor: above 1 narrower, below 1 wider."""
    del rng
    height, width = sample.mask.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return warped(sample, np.vstack([np.column_stack([np.eye(2) * factor, centre * (1 - factor)]), [0, 0, 1]]))


def warped(sample: Sample, homography: Matrix) -> Sample:
    """Return a frame after a homography. Pixels from outside of the frame are grey, and void in the mask.

    A box becomes the extent of the warped ellipse inside it. The corners of a box are no part of its object, and their
    extent would be too large after a turn (A. Kalra et al., "Towards Rotation Invariance in Object Detection", ICCV
    2021). Boxes are clipped. One that is mostly outside, or tiny, becomes an ignored region of its class.

    Args:
        sample: The frame.
        homography: float64 (3, 3), from pixels of the frame to pixels of the result; centres at whole numbers.
    """
    height, width = sample.mask.shape
    boxes = _warped_boxes(sample.boxes_xyxy, homography)
    clipped = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    kept = whole_enough(boxes, clipped, VISIBLE_SHARE_MIN)
    seen = area(clipped) > 0
    ignored, labels = [clipped[seen & ~kept]], [sample.labels[seen & ~kept]]
    if sample.ignored_xyxy is not None and sample.ignored_labels is not None:
        regions = np.clip(_warped_boxes(sample.ignored_xyxy, homography), 0, [width, height] * 2).astype(np.float32)
        there = area(regions) > 0
        ignored, labels = [*ignored, regions[there]], [*labels, sample.ignored_labels[there]]
    confidence = sample.confidence
    return replace(
        sample,
        image_bgr=_warped_image(sample.image_bgr, homography),
        mask=_warped_ids(sample.mask, homography, UNLABELED_ID),
        confidence=None if confidence is None else _warped_ids(confidence, homography, FULL_CONFIDENCE),
        boxes_xyxy=clipped[kept],
        labels=sample.labels[kept],
        ignored_xyxy=np.concatenate(ignored),
        ignored_labels=np.concatenate(labels),
        taught=None,
    )


def _turned(sample: Sample, rotation: Matrix) -> Matrix:
    height, width = sample.mask.shape
    focal = focal_px(width)
    camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return np.asarray(camera @ rotation @ np.linalg.inv(camera))


def _warped_image(image_bgr: NDArray[np.uint8], homography: Matrix) -> NDArray[np.uint8]:
    height, width = image_bgr.shape[:2]
    shrinks = 1 / np.sqrt(abs(np.linalg.det(homography[:2, :2])))
    # A picture that shrinks would alias: fine texture would become coarse noise.
    smooth = blurred(image_bgr.astype(np.float32), 0.45 * np.sqrt(max(0.0, shrinks**2 - 1)))
    border = (PAD_VALUE,) * 3
    found = cv2.warpPerspective(smooth, homography, (width, height), flags=cv2.INTER_LINEAR, borderValue=border)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def _warped_ids(ids: NDArray[np.uint8], homography: Matrix, outside: int) -> NDArray[np.uint8]:
    height, width = ids.shape
    found = cv2.warpPerspective(ids, homography, (width, height), flags=cv2.INTER_NEAREST, borderValue=(outside,))
    return np.asarray(found, np.uint8)


def _warped_boxes(boxes_xyxy: NDArray[np.float32], homography: Matrix) -> NDArray[np.float32]:
    """Return the extents of the warped ellipses in boxes (n, 4)."""
    middle, half = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2
    circle = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    outlines = (middle[:, None] + half[:, None] * circle[None]).astype(np.float64) - 0.5
    if not len(outlines):
        return boxes_xyxy
    moved = cv2.perspectiveTransform(outlines.reshape(1, -1, 2), homography).reshape(outlines.shape) + 0.5
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)
