"""The bases of all readers: frames that are listed once and read from disk each time.

A recipe is checked before numpy, OpenCV and Pillow are loaded, and a reader stands in one file with its settings. What
decodes images is therefore imported in the methods that read.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from training.data.image_listing import other_pictures
from training.data.label_counts import LabelCounts
from training.data.sample import Sample
from training.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.boxes_file import Boxes

    Labels = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]


class FolderSettings(Protocol):
    """The settings that a folder of frames reads. Every `Source` has them."""

    @property
    def folder(self) -> Path:
        """Folder of the frames."""
        ...

    def image_files(self) -> list[Path]:
        """Return the image files to read, in name order."""
        ...


class LabeledFolderSettings(FolderSettings, Protocol):
    """The settings that a folder with masks reads. Every `LabeledSource` has them."""

    @property
    def images(self) -> str:
        """Name of the folder with the images."""
        ...

    @property
    def box_weight(self) -> float:
        """How much the boxes count in the loss, 0..1."""
        ...


class FrameFolder(ABC):
    """Frames of one source, in name order.

    Attributes:
        has_boxes: Whether the objects in the frames are known.
        box_weight: How much the boxes count in the loss; goes into every sample.
        folder: The folder that the recipe names.
        names: File stems of the frames.
        counts: How many pixels and boxes of each class the labels hold, once `check` has read them all.
    """

    has_boxes = True
    box_weight = 1.0

    def __init__(self, source: FolderSettings) -> None:
        """List the frames.

        Raises:
            DataError: The folder is missing, or nothing is left in it.
        """
        self.folder = source.folder
        self._images = source.image_files()
        self.names = [path.stem for path in self._images]
        self.counts = LabelCounts()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        from training.data.image_files import read_image

        path = self._images[index]
        image = read_image(path)
        mask, boxes_xyxy, labels = self.read_labels(path.stem, image.shape[:2])
        return Sample(path.stem, image, mask, boxes_xyxy, labels, self.has_boxes, self.box_weight)

    @abstractmethod
    def read_labels(self, name: str, size: tuple[int, ...]) -> Labels:
        """Return a frame's mask uint8 (h, w), boxes float32 (n, 4) xyxy and labels int64 (n,).

        Args:
            name: File stem of the frame.
            size: Height and width of its image in pixels.
        """

    @abstractmethod
    def label_files(self, name: str) -> list[Path]:
        """Return the files that hold the labels of one frame; the fingerprint follows their bytes."""

    def check(self) -> None:
        """Read every frame's image and labels once, with a progress bar.

        Images are decoded, since a JPEG of the right length can be damaged inside and half of it grey. That takes 4 ms
        of one core for a frame of CamVid with its mask.

        Raises:
            DataError: A frame cannot be trained on. Without the check it would end the run hours later.
        """
        from tqdm import tqdm

        self.counts = LabelCounts()
        for path in tqdm(
            self._images, desc=f"checking {self.folder}", unit="frame", leave=False, delay=2, disable=None
        ):
            self.check_frame(path)
        images = self._images[0].parent
        others = other_pictures(images)
        if others:
            print(f"{images}: {len(others)} pictures that are not .jpg or .png are left out, {others[0]} first")

    def check_frame(self, path: Path) -> None:
        """Read one frame's image and labels, and count the labels.

        Raises:
            DataError: The frame cannot be trained on.
        """
        from training.data.image_files import read_image

        height, width = read_image(path).shape[:2]
        mask, boxes_xyxy, labels = self.read_labels(path.stem, (height, width))
        if (boxes_xyxy > (width, height, width, height)).any():
            raise DataError(
                f"{path}: expected its boxes within its {width} x {height} pixels, got one that reaches out; "
                "clip them, or give the frame the boxes that belong to it"
            )
        self.counts.add(mask, labels)

    def fingerprint(self) -> str:
        """Return a SHA-256 over the names and bytes of all images and label files."""
        digest = hashlib.sha256()
        for path in self._images:
            for file in (path, *self.label_files(path.stem)):
                digest.update(os.fsencode(file.name) + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


class LabeledFolder(FrameFolder):
    """Frames with a mask each in masks/, a PNG of the same name and size.

    Attributes:
        void_ids: Ids in the masks that mean "not labelled", besides 255.
    """

    void_ids: tuple[int, ...] = ()

    def __init__(self, source: LabeledFolderSettings) -> None:
        """List the frames and their masks.

        Raises:
            DataError: A folder or a mask is missing.
        """
        for part in (source.images, "masks"):
            if not (source.folder / part).is_dir():
                raise DataError(
                    f"{source.folder}: expected a folder with {source.images}/ and masks/, there is no {part}/; "
                    "render frames into it (python -m ros_kd_perception.render_drive --samples), fetch CamVid "
                    "(docs/training.md), or correct the recipe's folder or kind"
                )
        super().__init__(source)
        self.box_weight = source.box_weight
        self._masks = _find_masks(source.folder / "masks", self._images)

    def check_frame(self, path: Path) -> None:
        """Read one frame's image and labels; both must be stored as a viewer shows them."""
        from training.data.image_files import check_upright, exif_orientation, read_image

        super().check_frame(path)
        check_upright(path, exif_orientation(path))
        read_image(self.mask_path(path.stem))  # OpenCV refuses pixels that end early, which Pillow takes for zeros

    def read_labels(self, name: str, size: tuple[int, ...]) -> Labels:
        """Return the mask, checked against the image's size, and the boxes with their labels."""
        mask = self.read_mask(name)
        if mask.shape != size:
            raise DataError(
                f"{self.mask_path(name)}: expected height and width {size} like its image, "
                f"got {mask.shape}; make them the same frame"
            )
        return mask, *self.read_boxes(name, mask)

    def mask_path(self, name: str) -> Path:
        """Return where the mask of a frame lies."""
        return self._masks[name]

    def read_mask(self, name: str) -> NDArray[np.uint8]:
        """Return the mask of a frame, uint8 (h, w), with the ids of our classes and 255 for "not labelled".

        Raises:
            DataError: The file does not hold class ids in one channel, or ids that are not in the table.
        """
        from training.data.image_files import read_mask

        return read_mask(self.mask_path(name), self.void_ids)

    def label_files(self, name: str) -> list[Path]:
        """Return the mask. Boxes either follow from it or lie in one file for all frames."""
        return [self.mask_path(name)]

    @abstractmethod
    def read_boxes(self, name: str, mask: NDArray[np.uint8]) -> Boxes:
        """Return boxes float32 (n, 4) xyxy and labels int64 (n,) of a frame.

        Args:
            name: File stem of the frame.
            mask: Its mask, uint8 (h, w).
        """


def _find_masks(folder: Path, images: list[Path]) -> dict[str, Path]:
    """Return the mask of each image by the image's name: a PNG of the same name, with a suffix in any case."""
    masks: dict[str, list[Path]] = {}
    files = sorted(folder.iterdir())
    for path in files:
        if path.suffix.lower() == ".png":
            masks.setdefault(path.stem, []).append(path)
    for image in images:
        found = masks.get(image.stem, [])
        if len(found) != 1:
            names = [path.name for path in files if path.stem.lower().startswith(image.stem.lower())]
            raise DataError(
                f"{image}: expected its mask at {folder / image.stem}.png, a PNG with exactly the name of the image, "
                f"there is {' and '.join(names[:3]) or 'none'}; rename or export it so, or remove the image"
            )
    return {image.stem: masks[image.stem][0] for image in images}
