"""Frames in a folder: images/ and, where they are labelled, masks/ and for rendered ones boxes.json."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.class_tables import DETECTION_CLASSES, SEGMENTATION_CLASSES, UNLABELED_ID
from ros_kd_perception.compressed_image import check_whole, claimed_size, decode_file
from ros_kd_perception.structures import BadFrame
from training.data.sample import Sample
from training.errors import DataError
from training.recipe import SourceRecipe

MAX_BOXES_JSON_BYTES = 1 << 30
MAX_SIDE_PX = 8192
Labels = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

# A table of all values of a mask: sorting a mask for its ids takes four times as long.
_KNOWN_IDS = np.isin(np.arange(256), [*(c.id for c in SEGMENTATION_CLASSES), UNLABELED_ID])


class FrameFolder(ABC):
    """Frames of one folder, listed once in name order and read from disk each time.

    Attributes:
        folder: the folder that holds images/.
        names: file stems of the frames.
        has_boxes: whether the objects of the frames are known.
        box_weight: goes into every sample.
    """

    has_boxes = True

    def __init__(self, recipe: SourceRecipe) -> None:
        self.folder = recipe.folder
        self.box_weight = recipe.box_weight
        self._images = select_frames(recipe)
        self.names = [path.stem for path in self._images]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        path = self._images[index]
        image = _read_image(path)
        mask, boxes_xyxy, labels = self.read_labels(path.stem, image.shape[:2])
        return Sample(path.stem, image, mask, boxes_xyxy, labels, self.has_boxes, self.box_weight)

    @abstractmethod
    def read_labels(self, name: str, size: tuple[int, ...]) -> Labels:
        """Mask uint8 (h, w), boxes float32 (n, 4) xyxy and labels int64 (n,) of a frame of `size` (h, w)."""

    def check(self) -> None:
        """Look at every frame's image and labels once, with a progress bar.

        Images are decoded, for a JPEG of the right length with damage inside is half grey: 1 ms of a core for a
        rendered frame of 640x360, 2 ms for one of CamVid.

        Raises:
            DataError: the first that cannot be trained on; hours later it would have ended the run.
        """
        for path in tqdm(
            self._images, desc=f"checking {self.folder}", unit="frame", leave=False, delay=2, disable=None
        ):
            height, width = _read_image(path).shape[:2]
            _, boxes_xyxy, _ = self.read_labels(path.stem, (height, width))
            if (boxes_xyxy > (width, height, width, height)).any():
                raise DataError(
                    f"{path}: expected its boxes within its {width} x {height} pixels, got one that reaches out; "
                    "clip them, or give the frame the boxes that belong to it"
                )

    def fingerprint(self) -> str:
        """SHA-256 over names and bytes of all images and of what labels them: changes when the training data do."""
        digest = hashlib.sha256()
        for path in self._images:
            for file in (path, *self.label_files(path.stem)):
                digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
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
                    f"{recipe.folder}: expected a folder with images/ and masks/, there is no {part}/; make it with "
                    "python -m ros_kd_perception.render_drive --samples, or correct the recipe's folder or kind"
                )
        super().__init__(recipe)
        for path in self._images:
            if not self.mask_path(path.stem).is_file():
                raise DataError(f"{path}: expected its mask at {self.mask_path(path.stem)}; add it or remove the image")

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
        return self.folder / "masks" / f"{name}.png"

    def read_mask(self, name: str) -> NDArray[np.uint8]:
        """The mask of a frame, uint8 (h, w), in our ids.

        Raises:
            DataError: not a one-channel image, or ids outside the table.
        """
        path = self.mask_path(name)
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
            found = "it cannot be decoded" if mask is None else f"got {mask.dtype} {mask.shape}"
            raise DataError(f"{path}: expected a PNG of one 8-bit channel with class ids, {found}; export it again")
        mask = self.to_our_ids(np.asarray(mask, np.uint8))
        if not _KNOWN_IDS[mask].all():
            strange = np.setdiff1d(mask, np.flatnonzero(_KNOWN_IDS))
            raise DataError(
                f"{path}: expected class ids 0..{len(SEGMENTATION_CLASSES) - 1} or {UNLABELED_ID}, "
                f"got {strange[:5].tolist()}; map them to the table of ros_kd_perception/class_tables.py"
            )
        return mask

    def label_files(self, name: str) -> list[Path]:
        """The mask; boxes either follow from it or lie in one file for all frames."""
        return [self.mask_path(name)]

    @abstractmethod
    def to_our_ids(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The mask with 255 where the folder's own convention says "not labelled"."""

    @abstractmethod
    def read_boxes(self, name: str, mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes float32 (n, 4) xyxy and labels int64 (n,) of a frame."""


class RenderedFolder(LabeledFolder):
    """What `render_drive --samples` writes: exact masks, and exact boxes in boxes.json."""

    def __init__(self, recipe: SourceRecipe) -> None:
        super().__init__(recipe)
        path = recipe.folder / "boxes.json"
        entries = _read_boxes_json(path)
        for name in self.names:
            if name not in entries:
                raise DataError(f"{path}: expected an entry for frame {name}, there is none; render the folder again")
        self._boxes = {name: _check_boxes(entries[name], f"{path}: frame {name}") for name in self.names}

    def to_our_ids(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rendered masks have our ids."""
        return mask

    def read_boxes(self, name: str, mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes of boxes.json, which were checked on opening."""
        return self._boxes[name]

    def fingerprint(self) -> str:
        """As for every folder, and boxes.json."""
        boxes = hashlib.sha256((self.folder / "boxes.json").read_bytes()).hexdigest()
        return hashlib.sha256(f"{super().fingerprint()}{boxes}".encode()).hexdigest()


def select_frames(recipe: SourceRecipe) -> list[Path]:
    """The images of a source's folder that its recipe takes, in name order.

    Raises:
        DataError: no such folder or drive, or nothing is left.
    """
    return _select(_list_images(recipe.folder), recipe)


def _list_images(folder: Path) -> list[Path]:
    images = folder / "images"
    if not images.is_dir():
        raise DataError(f"{folder}: expected a folder with images/, there is none; correct the recipe's folder")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"{images}: expected .jpg or .png frames, there are none; correct the recipe's folder")
    return paths


def _read_image(path: Path) -> NDArray[np.uint8]:
    """A whole JPEG or PNG, uint8 (h, w, 3) BGR, decoded and judged as on the vehicle."""
    kind = "png" if path.suffix.lower() == ".png" else "jpeg"
    try:
        content = path.read_bytes()
        height, width = claimed_size(content, kind)
        if max(height, width) > MAX_SIDE_PX:
            raise BadFrame("too_large", f"expected at most {MAX_SIDE_PX} pixels a side, got {width} x {height}")
        check_whole(content)
        return decode_file(content)
    except (OSError, BadFrame) as error:
        raise DataError(f"{path}: expected a whole {kind.upper()} image ({error}); replace it or remove it") from error


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


def _read_boxes_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BOXES_JSON_BYTES:
            raise DataError(f"{path}: expected at most {MAX_BOXES_JSON_BYTES} bytes, got {path.stat().st_size}")
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: expected all boxes as JSON ({error}); render the folder again") from error
    if not isinstance(entries, dict):
        raise DataError(f"{path}: expected a JSON object of frames, got {type(entries).__name__}; render it again")
    return entries


def _check_boxes(entry: Any, where: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        boxes = np.asarray(entry["boxes_xyxy"], np.float32).reshape(-1, 4)
        labels = np.asarray(entry["labels"], np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: expected boxes_xyxy (n x 4) and labels (n), got {error}; render it again") from error
    if len(boxes) != len(labels):
        raise DataError(f"{where}: expected as many labels as boxes, got {len(labels)} and {len(boxes)}")
    if not np.isfinite(boxes).all() or (boxes < 0).any() or (boxes > MAX_SIDE_PX).any():
        raise DataError(f"{where}: expected box corners within 0..{MAX_SIDE_PX} pixels; render it again")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise DataError(f"{where}: expected boxes as left, top, right, bottom with a positive size; render it again")
    strange = np.setdiff1d(labels, [c.id for c in DETECTION_CLASSES])
    if len(strange):
        raise DataError(f"{where}: expected labels 0..{len(DETECTION_CLASSES) - 1}, got {strange[:5].tolist()}")
    return boxes, labels
