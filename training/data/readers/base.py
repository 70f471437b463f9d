"""Frames in a folder: images/ and, where they are labelled, masks/ and for rendered ones boxes.json."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.model.classes import SEGMENTATION_CLASSES, UNLABELED_ID
from training.config.recipe import SourceRecipe
from training.data.boxes_file import Boxes, read_boxes_file
from training.data.image_files import (
    OTHER_PICTURE_SUFFIXES,
    check_upright,
    exif_orientation,
    list_images,
    read_class_ids,
    read_image,
)
from training.data.label_counts import LabelCounts
from training.data.sample import Sample
from training.errors import DataError

ClassIds = NDArray[np.uint8] | NDArray[np.uint16]
Labels = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]

# A table of all values of a mask: sorting a mask for its ids takes four times as long.
_KNOWN_IDS = np.isin(np.arange(1 << 16), [*(c.id for c in SEGMENTATION_CLASSES), UNLABELED_ID])


class FrameFolder(ABC):
    """Frames of one folder, listed once in name order and read from disk each time.

    Attributes:
        folder: the folder that holds images/.
        names: file stems of the frames.
        has_boxes: whether the objects of the frames are known.
        box_weight: goes into every sample.
        counts: of the labels, once `check` has been through the folder.
    """

    has_boxes = True

    def __init__(self, recipe: SourceRecipe) -> None:
        self.folder = recipe.folder
        self.box_weight = recipe.box_weight
        self._images = select_frames(recipe)
        self.names = [path.stem for path in self._images]
        self.counts = LabelCounts()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        path = self._images[index]
        image = read_image(path)
        mask, boxes_xyxy, labels = self.read_labels(path.stem, image.shape[:2])
        return Sample(path.stem, image, mask, boxes_xyxy, labels, self.has_boxes, self.box_weight)

    @abstractmethod
    def read_labels(self, name: str, size: tuple[int, ...]) -> Labels:
        """Mask uint8 (h, w), boxes float32 (n, 4) xyxy and labels int64 (n,) of a frame of `size` (h, w)."""

    def check(self) -> None:
        """Look at every frame's image and labels once, with a progress bar.

        Images are decoded, for a JPEG of the right length with damage inside is half grey: 4 ms of a core for a frame
        of CamVid with its mask.

        Raises:
            DataError: the first that cannot be trained on; hours later it would have ended the run.
        """
        self.counts = LabelCounts()
        for path in tqdm(
            self._images, desc=f"checking {self.folder}", unit="frame", leave=False, delay=2, disable=None
        ):
            self.check_frame(path)
        images = self.folder / "images"
        others = sorted(path.name for path in images.iterdir() if path.suffix.lower() in OTHER_PICTURE_SUFFIXES)
        if others:
            print(f"{images}: {len(others)} pictures that are no .jpg or .png are left out, {others[0]} first")

    def check_frame(self, path: Path) -> None:
        """Look at one frame's image and labels, and count the labels.

        Raises:
            DataError: it cannot be trained on.
        """
        height, width = read_image(path).shape[:2]
        mask, boxes_xyxy, labels = self.read_labels(path.stem, (height, width))
        if (boxes_xyxy > (width, height, width, height)).any():
            raise DataError(
                f"{path}: expected its boxes within its {width} x {height} pixels, got one that reaches out; "
                "clip them, or give the frame the boxes that belong to it"
            )
        self.counts.add(mask, labels)

    def fingerprint(self) -> str:
        """SHA-256 over names and bytes of all images and of what labels them: changes when the training data do."""
        digest = hashlib.sha256()
        for path in self._images:
            for file in (path, *self.label_files(path.stem)):
                digest.update(os.fsencode(file.name) + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    @abstractmethod
    def label_files(self, name: str) -> list[Path]:
        """Files of a frame's own labels."""


class LabeledFolder(FrameFolder):
    """Frames with a mask each in masks/, of the same name and size."""

    def __init__(self, recipe: SourceRecipe) -> None:
        for part in ("images", "masks"):
            if not (recipe.folder / part).is_dir():
                raise DataError(
                    f"{recipe.folder}: expected a folder with images/ and masks/, there is no {part}/; render frames "
                    "into it (python -m ros_kd_perception.render_drive --samples), fetch CamVid (docs/training.md), "
                    "or correct the recipe's folder or kind"
                )
        super().__init__(recipe)
        self._masks = _find_masks(recipe.folder / "masks", self._images)

    def check_frame(self, path: Path) -> None:
        """Look at one frame's image and labels, which must both be stored as they are shown."""
        super().check_frame(path)
        check_upright(path, exif_orientation(path))
        read_image(self.mask_path(path.stem))  # OpenCV refuses pixels that end early, which Pillow takes for zeros

    def read_labels(self, name: str, size: tuple[int, ...]) -> Labels:
        """The mask, checked against the image's size, and the boxes."""
        mask = self.read_mask(name)
        if mask.shape != size:
            raise DataError(
                f"{self.mask_path(name)}: expected height and width {size} like its image, "
                f"got {mask.shape}; make them the same frame"
            )
        return mask, *self.read_boxes(name, mask)

    def mask_path(self, name: str) -> Path:
        """Where the mask of a frame lies."""
        return self._masks[name]

    def read_mask(self, name: str) -> NDArray[np.uint8]:
        """The mask of a frame, uint8 (h, w), in our ids.

        Raises:
            DataError: not class ids in one channel, or ids outside the table.
        """
        path = self.mask_path(name)
        mask = self.to_our_ids(read_class_ids(path))
        if not _KNOWN_IDS[mask].all():
            strange = np.setdiff1d(mask, np.flatnonzero(_KNOWN_IDS))
            raise DataError(
                f"{path}: expected class ids 0..{len(SEGMENTATION_CLASSES) - 1} or {UNLABELED_ID}, "
                f"got {strange[:5].tolist()}; map them to the table of ros_kd_perception/model/classes.py"
            )
        return mask.astype(np.uint8, copy=False)

    def label_files(self, name: str) -> list[Path]:
        """The mask; boxes either follow from it or lie in one file for all frames."""
        return [self.mask_path(name)]

    @abstractmethod
    def to_our_ids(self, mask: ClassIds) -> ClassIds:
        """The mask with 255 where the folder's own convention says "not labelled"."""

    @abstractmethod
    def read_boxes(self, name: str, mask: NDArray[np.uint8]) -> Boxes:
        """Boxes float32 (n, 4) xyxy and labels int64 (n,) of a frame."""


class RenderedFolder(LabeledFolder):
    """What `render_drive --samples` writes: exact masks, and exact boxes in boxes.json."""

    def __init__(self, recipe: SourceRecipe) -> None:
        super().__init__(recipe)
        self._boxes = read_boxes_file(recipe.folder / "boxes.json", self.names)

    def to_our_ids(self, mask: ClassIds) -> ClassIds:
        """Rendered masks have our ids."""
        return mask

    def read_boxes(self, name: str, mask: NDArray[np.uint8]) -> Boxes:
        """Boxes of boxes.json, which were checked on opening."""
        return self._boxes[name]

    def fingerprint(self) -> str:
        """As for every folder, and boxes.json."""
        boxes = hashlib.sha256((self.folder / "boxes.json").read_bytes()).hexdigest()
        return hashlib.sha256(f"{super().fingerprint()}{boxes}".encode()).hexdigest()


def select_frames(recipe: SourceRecipe) -> list[Path]:
    """The images of a source's folder that its recipe takes, in name order.

    Raises:
        DataError: no such folder or drive, two images of one name, or nothing is left.
    """
    if not (recipe.folder / "images").is_dir():
        raise DataError(f"{recipe.folder}: expected a folder with images/, there is none; correct the recipe's folder")
    paths = list_images(recipe.folder / "images")
    for path, following in pairwise(sorted(paths, key=lambda path: path.stem)):
        if path.stem == following.stem:
            raise DataError(
                f"{path}: expected one image of the name {path.stem}, there is {following.name} too; remove or "
                "rename one"
            )
    return _select(paths, recipe)


def _select(paths: Sequence[Path], recipe: SourceRecipe) -> list[Path]:
    included = recipe.include_drives
    chosen = [path for path in paths if not included or path.stem.startswith(included)]
    chosen = [path for path in chosen if not path.stem.startswith(recipe.exclude_drives or ("\0",))]
    for drive in (*recipe.include_drives, *recipe.exclude_drives):
        if not any(path.stem.startswith(drive) for path in paths):
            raise DataError(
                f"{recipe.folder}: expected frames of drive {drive}, no name starts with it; correct the recipe"
            )
    if not chosen:
        raise DataError(f"{recipe.folder}: include_drives and exclude_drives leave no frame; correct the recipe")
    return chosen[: recipe.limit or None]


def _find_masks(folder: Path, images: Sequence[Path]) -> dict[str, Path]:
    """The mask of each image by the image's name: a PNG of the same name, its suffix in letters of any case."""
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
                f"{image}: expected its mask at {folder / image.stem}.png, a PNG of the very name of the image, "
                f"there is {' and '.join(names[:3]) or 'none'}; rename or export it so, or remove the image"
            )
    return {image.stem: masks[image.stem][0] for image in images}
