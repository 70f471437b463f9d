"""What a report says about one frame, without its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.sample import Sample
from training.label_sets.label_set import UNLABELED_ID

GRID_PX = 16  # side of the grid of a perceptual hash


@dataclass(frozen=True)
class FrameFacts:
    """One frame.

    Attributes:
        path: Image file.
        place: Number of the frame in its source.
        height: Height in pixels.
        width: Width in pixels.
        brightness: Mean of its grey values, from 0 (black) to 1.
        pixels: Number of pixels of each class of masks, by id; unlabelled ones have the id 255.
        has_mask: Whether a pixel has a class, or could have one.
        boxes_xyxy: float32 (n, 4) in pixels.
        labels: int64 (n,), ids of the classes of the boxes.
        has_boxes: Whether the objects are known.
        ignored: Number of regions that teach nothing.
        sha256: Digest of the file's bytes.
        tiny: uint8 (GRID_PX, GRID_PX + 1), a tiny grey picture of the frame.
    """

    path: Path
    place: int
    height: int
    width: int
    brightness: float
    pixels: dict[int, int]
    has_mask: bool
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    has_boxes: bool
    ignored: int
    sha256: bytes
    tiny: NDArray[np.uint8]

    @classmethod
    def of(cls, sample: Sample, path: Path, place: int) -> FrameFacts:
        """Take the facts out of a frame as a reader returns it.

        Args:
            sample: The frame with its labels in the classes of the student.
            path: Its image file.
            place: Its number in the source.
        """
        height, width = sample.mask.shape
        grey = cv2.cvtColor(sample.image_bgr, cv2.COLOR_BGR2GRAY)
        counts = cv2.calcHist([sample.mask], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        return cls(
            path,
            place,
            height,
            width,
            float(grey.mean()) / 255,
            {int(label): int(counts[label]) for label in np.flatnonzero(counts)},
            sample.labeled_pixels is None or bool(sample.labeled_pixels.any()),
            sample.boxes_xyxy,
            sample.labels,
            sample.has_boxes,
            0 if sample.ignored_xyxy is None else len(sample.ignored_xyxy),
            hashlib.sha256(path.read_bytes()).digest(),
            np.asarray(cv2.resize(grey, (GRID_PX + 1, GRID_PX), interpolation=cv2.INTER_AREA), np.uint8),
        )

    @property
    def labeled_pixels(self) -> int:
        """Number of pixels that have a class."""
        return sum(count for label, count in self.pixels.items() if label != UNLABELED_ID)

    @property
    def unlabeled_share(self) -> float:
        """Share of the pixels that have no class."""
        return self.pixels.get(UNLABELED_ID, 0) / (self.height * self.width)

    @property
    def areas_px(self) -> NDArray[np.float64]:
        """Areas of the boxes, float64 (n,)."""
        sides = np.asarray(self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2], np.float64)
        return np.asarray(sides[:, 0] * sides[:, 1])
