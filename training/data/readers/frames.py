"""Frames in the folder format of this package: images, with masks, boxes and confidences where there are some."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.data.labels import SourceBoxes
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import BOXES_FILE, LABEL_SET_FILE, LabeledSource
from training.errors import DataError
from training.label_sets.label_set import UNLABELED_ID, LabelSet, Share
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FULL_CONFIDENCE = 255


class FramesSource(LabeledSource):
    """A folder with images/ and, each of them if it is there, masks/, boxes.json and confidence/, as `extract-frames`
    writes it. A frame without a mask has unlabelled pixels; without an entry in boxes.json its objects are unknown.
    """

    kind: Literal["frames"] = "frames"
    """Images with masks, boxes or both."""
    labels: str = ""
    """Label set of masks and boxes: the name of one in training/label_sets/, or the path of a YAML file. Empty takes
    label_set.yaml of the folder."""
    score_min: Share = 0.0
    """Boxes of which a teacher was less sure teach nothing: neither that the object is there nor that it is not."""
    confidence_min: Share = 0.0
    """Pixels of which a teacher was less sure, by confidence/, are not labelled."""

    def open(self, mapping: LabelMapping) -> FramesFolder:
        """Return the reader of the frames."""
        return FramesFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds label_set.yaml, and confidences of its masks or no masks at all."""
        of_teachers = (folder / "confidence").is_dir() or not (folder / "masks").is_dir()
        return (folder / LABEL_SET_FILE).is_file() and of_teachers


class FramesFolder(LabeledFolder):
    """Reads images with the labels that each of them has."""

    masks = None

    def __init__(self, source: FramesSource, mapping: LabelMapping) -> None:
        """List the frames and read all boxes.

        Raises:
            DataError: There are no labels at all, or boxes.json is not valid.
        """
        super().__init__(source, mapping)
        self._files = {part: self.folder / part for part in ("masks", "confidence")}
        self._boxes_file = self.folder / BOXES_FILE
        self._limits = source.score_min, source.confidence_min
        if not self._files["masks"].is_dir() and not self._boxes_file.is_file():
            raise DataError(
                f"{self.folder}: expected labels in masks/ or {BOXES_FILE}, there is neither; name the kind unlabeled "
                "for frames without labels"
            )
        self._boxes = self._read_boxes(mapping.source)

    def _read_boxes(self, label_set: LabelSet) -> dict[str, SourceBoxes]:
        from training.data.boxes_file import read_boxes_file

        if not self._boxes_file.is_file():
            return {}
        return read_boxes_file(self._boxes_file, self.names, label_set, every_frame=False, score_min=self._limits[0])

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a frame, without the pixels of low confidence; None if it has no mask."""
        import numpy as np

        from training.data.image_files import read_class_ids

        path = self._files["masks"] / f"{name}.png"
        if not path.exists():
            return None
        mask = read_class_ids(path)
        certain = self._files["confidence"] / f"{name}.png"
        if not self._limits[1] or not certain.exists():
            return mask
        levels = read_class_ids(certain)
        if levels.shape != mask.shape:
            raise DataError(f"{certain}: expected height and width {mask.shape} like its mask, got {levels.shape}")
        return np.where(levels < self._limits[1] * _FULL_CONFIDENCE, mask.dtype.type(UNLABELED_ID), mask)

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the objects of a frame; None if boxes.json has no entry for it.

        Raises:
            DataError: A box reaches out of the image: it belongs to another one.
        """
        from training.data.boxes_file import check_inside

        return check_inside(self._boxes.get(name), size, f"{self._boxes_file}: frame {name}")

    def label_files(self, name: str) -> list[Path]:
        """Return the mask and the confidence of a frame, if it has them."""
        return [path for folder in self._files.values() if (path := folder / f"{name}.png").exists()]

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and masks, boxes.json and the limits."""
        boxes = self._boxes_file.read_bytes() if self._boxes_file.is_file() else b""
        digest = hashlib.sha256(boxes).hexdigest()
        return hashlib.sha256(f"{super().fingerprint()}{digest}{self._limits}".encode()).hexdigest()
