"""Writes what teachers say about each extracted frame, as files that the readers of labelled folders take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from ros_kd_perception.structures import UInt8Array
from training.data.frame_log import FrameRecord
from training.data.readers.frame_folder import CONFIDENCE_FOLDER
from training.errors import DataError
from training.extraction.annotations import write_annotations
from training.label_sets.label_set import LabelSet
from training.teachers.pseudo_labels import PseudoLabels
from training.whole_files import write_bytes, write_text

MASKS_FOLDER = "masks"
BOXES_FILE, LABEL_SET_FILE = "boxes.json", "label_set.yaml"
_DIGITS = 4  # of box corners in pixels and of scores


class Labeler(Protocol):
    """The teachers of an extraction.

    Attributes:
        label_set: The classes of the labels: the student's.
        sha256: Digest of the teachers' weights and settings.
    """

    label_set: LabelSet
    sha256: str

    def __call__(self, image_bgr: UInt8Array) -> PseudoLabels:
        """Return the labels of an image, uint8 [h, w, 3]."""
        ...


class PseudoLabelFiles:
    """Writes masks/ and confidence/ for each frame, and boxes.json for all of them.

    - `masks/NAME.png`: class ids, 255 where no teacher is sure.
    - `confidence/NAME.png`: 255 times the probability of the most probable class, as 8 bits.
    - `boxes.json`: corners, labels, scores (null where ignored) and `ignored` of the boxes of each frame.
    - `label_set.yaml`: the classes that the teachers know, with the student's ids. Readers take its other classes as
      not labelled.
    - `annotations.json`: see `write_annotations`.
    """

    def __init__(self, labeler: Labeler) -> None:
        self._labeler = labeler
        self.key = labeler.sha256

    def annotate(self, folder: Path, record: FrameRecord, image_bgr: UInt8Array) -> dict[str, Any]:
        """Write the files of a frame and return its boxes, with the digests of the files."""
        seen = self._labeler(image_bgr)
        files: dict[str, bytes] = {}
        if seen.mask is not None and seen.confidence is not None:
            files[f"{MASKS_FOLDER}/{record.name}.png"] = _png(seen.mask)
            levels = np.rint(np.clip(seen.confidence, 0, 1) * 255).astype(np.uint8)
            files[f"{CONFIDENCE_FOLDER}/{record.name}.png"] = _png(levels)
        for name, content in files.items():
            write_bytes(folder / name, content)
        return {
            **boxes_entry(seen),
            "labeled_pixels": seen.labeled_pixels.tolist(),
            "labeled_boxes": seen.labeled_boxes.tolist(),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }

    def finish(self, folder: Path, frames: Sequence[FrameRecord]) -> None:
        """Write boxes.json, label_set.yaml and annotations.json."""
        known = known_classes(self._labeler.label_set, frames[0].notes)
        write_text(folder / LABEL_SET_FILE, yaml.safe_dump(known.model_dump(mode="json"), sort_keys=False))
        if known.detection:
            keys = ("boxes_xyxy", "labels", "scores", "ignored")
            entries = {record.name: {key: record.notes[key] for key in keys} for record in frames}
            write_text(folder / BOXES_FILE, json.dumps(entries, allow_nan=False) + "\n")
        write_annotations(folder, frames, known.detection_classes)


def boxes_entry(seen: PseudoLabels) -> dict[str, list[Any]]:
    """Return the entry of a frame in boxes.json: sure boxes first, then ignored ones.

    Boxes that leave no area at the precision of the file are left out: readers refuse a folder with one of them.
    """
    sure, ignored = len(seen.labels), len(seen.ignored_labels)
    corners = np.concatenate([seen.boxes_xyxy, seen.ignored_xyxy]).astype(float)
    written = [[round(value, _DIGITS) for value in box] for box in corners.tolist()]
    places = [place for place, box in enumerate(written) if _has_area(box)]
    scores = [*(round(score, _DIGITS) for score in seen.scores.astype(float).tolist()), *[None] * ignored]
    labels = [*seen.labels.tolist(), *seen.ignored_labels.tolist()]
    return {
        "boxes_xyxy": [written[place] for place in places],
        "labels": [labels[place] for place in places],
        "scores": [scores[place] for place in places],
        "ignored": [place >= sure for place in places],
    }


def _has_area(box_xyxy: Sequence[float]) -> bool:
    left, top, right, bottom = np.asarray(box_xyxy, np.float32)
    return bool(left < right and top < bottom)


def known_classes(label_set: LabelSet, notes: dict[str, Any]) -> LabelSet:
    """Return the classes that the teachers know, with the ids of the student's set.

    Args:
        label_set: The student's set.
        notes: Notes of a frame, see `PseudoLabelFiles.annotate`.

    Raises:
        DataError: The teachers know no class.
    """
    masks = _chosen([info.name for info in label_set.segmentation_classes], notes["labeled_pixels"])
    boxes = _chosen([info.name for info in label_set.detection_classes], notes["labeled_boxes"])
    if not masks and not boxes:
        raise DataError(
            f"the teachers know no class of the label set {label_set.name}; map their classes to it by name"
        )
    segmentation = tuple(info for info in label_set.segmentation if info.name in masks)
    detection = tuple(
        info if info.region in ("", *masks) else info.replace(region="")
        for info in label_set.detection
        if info.name in boxes
    )
    return LabelSet(
        name=f"{label_set.name} by teachers",
        segmentation=segmentation,
        detection=detection,
        rare=tuple(name for name in label_set.rare if name in masks),
        drivable=tuple(name for name in label_set.drivable if name in masks),
    )


def _chosen(names: Sequence[str], chosen: Sequence[bool]) -> set[str]:
    return {name for name, known in zip(names, chosen, strict=True) if known}


def _png(pixels: NDArray[np.uint8]) -> bytes:
    encoded, content = cv2.imencode(".png", pixels)
    if not encoded:
        raise OSError("a mask could not be encoded as PNG")
    return content.tobytes()
