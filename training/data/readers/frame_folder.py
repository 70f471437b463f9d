"""The bases of all readers: frames that are listed once and read from disk each time.

A recipe is checked before numpy, OpenCV and Pillow are loaded, and a reader stands in one file with its settings. What
decodes images is therefore imported in the methods that read.
"""

from __future__ import annotations

import copy
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from training.data.image_listing import frame_names, other_pictures
from training.data.label_counts import LabelCounts
from training.data.sample import Sample
from training.errors import DataError, listed
from training.label_sets.label_set import UNLABELED_ID
from training.label_sets.mapping import UNKNOWN_ID

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.labels import FrameLabels, SourceBoxes
    from training.label_sets.label_set import LabelSet
    from training.label_sets.mapping import LabelMapping

CONFIDENCE_FOLDER = "confidence"  # beside images/, for masks of teachers


class FolderSettings(Protocol):
    """The settings that a folder of frames reads. Every `Source` has them."""

    @property
    def folder(self) -> Path:
        """Folder of the frames."""
        ...

    def image_files(self) -> list[Path]:
        """Return the image files to read, in name order."""
        ...

    def mapping_to(self, student: LabelSet | None, where: str = "") -> LabelMapping:
        """Return the mapping from the classes of the source to those of a student."""
        ...


class FrameFolder(ABC):
    """Frames of one source, in name order.

    A reader says how the labels of its source are read, in `raw_mask` and `raw_boxes`, with the ids of the source. This
    class maps them to the classes of the student, clips boxes to the image and checks everything.

    Attributes:
        all_boxes: Whether every object of the labelled classes has a box, so that a missing box means something.
        box_weight: How much the boxes count in the loss; goes into every sample.
        check_shares: Whether masks with unusual shares of classes are refused.
        folder: The folder that the recipe names.
        mapping: From the classes of the source to those of the student.
        names: File stems of the frames, or their paths with __ for / where stems come twice.
        counts: How many pixels and boxes of each class the labels hold, once `check` has read them all.
        on_frame: Called by `problems` with the image file of each frame that can be trained on, and the frame; None at
            first.
    """

    all_boxes = True
    box_weight = 1.0
    check_shares = True

    def __init__(self, source: FolderSettings, mapping: LabelMapping) -> None:
        """List the frames.

        Raises:
            DataError: The folder is missing, or nothing is left in it.
        """
        self._source = source
        self.folder = source.folder
        self.mapping = mapping
        self._images = source.image_files()
        self.names = frame_names(self._images)
        self._name_of = dict(zip(self._images, self.names, strict=True))
        self.counts = LabelCounts(mapping.student)
        self.on_frame: Callable[[Path, Sample], None] | None = None

    def for_student(self, student: LabelSet) -> FrameFolder:
        """Return the same frames with their labels in the classes of another student; no file is checked again.

        Raises:
            RecipeError: A class of the source maps to nothing in the student's label set.
        """
        if student == self.mapping.student:
            return self
        other = copy.copy(self)
        other.mapping = self._source.mapping_to(student, str(self.folder))
        other.counts = LabelCounts(student)
        return other

    def __len__(self) -> int:
        return len(self.names)

    def image_bgr(self, index: int) -> NDArray[np.uint8]:
        """Return the image of a frame, uint8 (h, w, 3), without reading its labels.

        Raises:
            DataError: The image cannot be read.
        """
        from training.data.image_files import read_image

        return read_image(self._images[index])

    def image_sha256(self, index: int) -> str:
        """Return the SHA-256 of the image file of a frame.

        Raises:
            OSError: The file cannot be read.
        """
        return hashlib.sha256(self._images[index].read_bytes()).hexdigest()

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image = self.image_bgr(index)
        return self._sample(name, image, self.read_labels(name, image.shape[:2]))

    def _sample(self, name: str, image: NDArray[np.uint8], labels: FrameLabels) -> Sample:
        return Sample(
            name,
            image,
            labels.mask,
            labels.boxes_xyxy,
            labels.labels,
            labels.has_boxes,
            self.box_weight,
            ignored_xyxy=labels.ignored_xyxy,
            ignored_labels=labels.ignored_labels,
            labeled_pixels=labels.labeled_pixels,
            labeled_boxes=labels.labeled_boxes,
            confidence=self._confidence(name, labels.mask.shape),
        )

    def _confidence(self, name: str, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
        """Return how sure a teacher was of each pixel of the mask, 255 = fully; None without a file in confidence/."""
        import numpy as np

        from training.data.image_files import read_class_ids

        path = self._confidence_file(name)
        if not path.is_file():
            return None
        levels = read_class_ids(path)
        if levels.shape != size or levels.dtype != np.uint8:
            raise DataError(
                f"{path}: expected the confidence of each pixel, 8 bits and height and width {size} like the image, "
                f"got {levels.dtype} {levels.shape}; extract the frames again, or remove the file"
            )
        return levels.astype(np.uint8, copy=False)

    def _confidence_file(self, name: str) -> Path:
        return self.folder / CONFIDENCE_FOLDER / f"{name}.png"

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a frame, (h, w), with the ids of the source; None if the frame has no mask.

        Raises:
            DataError: The mask cannot be read.
        """
        del name
        return None

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the objects of a frame with the ids of the source; None if they are not known.

        Args:
            name: Name of the frame.
            raw_mask: Its mask with the ids of the source, if it has one.
            size: Height and width of its image in pixels.

        Raises:
            DataError: The boxes cannot be read.
        """
        del name, raw_mask, size
        return None

    @abstractmethod
    def label_files(self, name: str) -> list[Path]:
        """Return the files that hold the labels of one frame; the fingerprint follows their bytes."""

    def read_labels(self, name: str, size: tuple[int, ...]) -> FrameLabels:
        """Return the labels of a frame in the classes of the student.

        Args:
            name: Name of the frame.
            size: Height and width of its image in pixels.

        Raises:
            DataError: They cannot be read, have another size than the image, or ids that their label set lacks.
        """
        return self._labels(name, self.raw_mask(name), size)

    def _labels(
        self, name: str, raw: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> FrameLabels:
        import numpy as np

        from training.data.labels import FrameLabels

        mask = np.full(size, UNLABELED_ID, np.uint8)
        if raw is not None:
            mask = self._student_mask(name, raw, size)
        boxes = self.raw_boxes(name, raw, size)
        if boxes is not None:
            boxes = boxes.clipped(size[0], size[1])
        return FrameLabels.mapped(self.mapping, mask, boxes, raw is not None, self.all_boxes)

    def _student_mask(
        self, name: str, raw: NDArray[np.uint8] | NDArray[np.uint16], size: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        import numpy as np

        if raw.shape != size:
            raise DataError(
                f"{self.mask_file(name)}: expected height and width {size} like its image, got {raw.shape}; make them "
                "the same frame"
            )
        mask = self.mapping.mask_ids[raw]
        unknown = mask == UNKNOWN_ID
        if unknown.any():
            source = self.mapping.source
            known = sorted({info.id for info in source.segmentation} | set(source.void_ids))
            raise DataError(
                f"{self.mask_file(name)}: expected ids of the label set {source.name} ({_ranges(known)}) or "
                f"{UNLABELED_ID}, got {np.unique(raw[unknown])[:5].tolist()} in {unknown.mean():.1%} of the pixels; "
                "name the label set of these masks (labels), or add the ids to its file"
            )
        return mask.astype(np.uint8)

    def mask_file(self, name: str) -> Path:
        """Return the file to name in an error about the mask of a frame."""
        return next(iter(self.label_files(name)), self.folder / name)

    def check(self) -> None:
        """Read every frame's image and labels once, with a progress bar.

        Images are decoded, since a JPEG of the right length can be damaged inside and half of it grey. That takes 4 ms
        of one core for a frame of 960x720 pixels with its mask.

        Raises:
            DataError: Frames cannot be trained on; the sentence names all of them. Without the check the first would
                end the run hours later.
        """
        problems = list(self.problems())
        if problems:
            raise DataError(listed(problems))
        images = self._images[0].parent
        others = other_pictures(images)
        if others:
            print(f"{images}: {len(others)} pictures that are not .jpg or .png are left out, {others[0]} first")

    def problems(self) -> Iterator[str]:
        """Read every frame, count the labels, and yield a sentence about each frame that cannot be trained on.

        At the end, the values of all masks are compared with those that are usual for the label set.
        """
        import numpy as np
        from tqdm import tqdm

        from training.data.mask_histogram import MASK_VALUES, foreign_masks

        self._raw_pixels = np.zeros(MASK_VALUES, np.int64)
        self.counts = LabelCounts(self.mapping.student)
        for path in tqdm(
            self._images, desc=f"checking {self.folder}", unit="frame", leave=False, delay=2, disable=None
        ):
            try:
                sample = self.check_frame(path)
            except DataError as error:
                yield str(error)
            else:
                if self.on_frame is not None:
                    self.on_frame(path, sample)
        if self.check_shares:
            yield from foreign_masks(self.folder, self.mapping.source, self._raw_pixels)

    def check_frame(self, path: Path) -> Sample:
        """Read one frame's image and labels, count the labels, and return the frame.

        Raises:
            DataError: The frame cannot be trained on.
        """
        import numpy as np

        from training.data.image_files import read_image
        from training.data.mask_histogram import MASK_VALUES

        image = read_image(path)
        name = self._name_of[path]
        raw = self.raw_mask(name)
        labels = self._labels(name, raw, image.shape[:2])
        self.counts.add(labels.mask, labels.labels)
        if raw is not None and self.mapping.source.usual_share:
            self._raw_pixels += np.bincount(raw[::2, ::2].ravel(), minlength=MASK_VALUES)
        return self._sample(name, image, labels)

    def fingerprint(self) -> str:
        """Return a SHA-256 over the names and bytes of all images and label files, and the mapping of the classes."""
        digest = hashlib.sha256()
        for path in self._images:
            name = self._name_of[path]
            confidence = self._confidence_file(name)
            for file in (path, *self.label_files(name), *([confidence] if confidence.is_file() else [])):
                digest.update(os.fsencode(file.name) + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        digest.update(repr((self.mapping.segmentation, self.mapping.detection)).encode())
        return digest.hexdigest()


def _ranges(ids: list[int]) -> str:
    """Write sorted numbers with runs shortened, for example `0..10, 255`."""
    starts = [i for i in ids if i - 1 not in ids]
    ends = [i for i in ids if i + 1 not in ids]
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in zip(starts, ends, strict=True)) or "no ids"
