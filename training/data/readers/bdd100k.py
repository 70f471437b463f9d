"""BDD100K: masks of 19 classes or of drivable areas, and boxes from its JSON lists of frames.

The layout is that of doc/source/download.rst in github.com/bdd100k/bdd100k: images/10k/ with masks, images/100k/ with
drivable areas and boxes. The list of boxes of 2018 is read where the one of 2020 is missing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.data.data_set_root import check_root, check_split
from training.data.image_listing import list_images
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import LabeledSource
from training.errors import DataError
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping
from training.label_sets.object_names import ObjectNames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.bdd_boxes import BddBoxes
    from training.data.labels import SourceBoxes

_IMAGES = {"segmentation": "images/10k", "drivable": "images/100k", "detection": "images/100k"}
_MASKS = {"segmentation": "labels/sem_seg/masks", "drivable": "labels/drivable/masks"}
_SETS = {"segmentation": "bdd100k19", "drivable": "bdd100k_drivable", "detection": "bdd100k19"}
_LISTS = (
    "labels/det_20/det_{split}.json",
    "labels/bdd100k_labels_images_{split}.json",
    "bdd100k_labels_images_{split}.json",
)
_UNLABELED_SPLIT = "test"


class Bdd100kSource(LabeledSource):
    """BDD100K: images/ and labels/, named in `folder` by the folder above both."""

    layout_tells_labels = True

    kind: Literal["bdd100k"] = "bdd100k"
    """BDD100K."""
    labels: str = ""
    """Label set of the frames: the name of one in training/label_sets/, or the path of a YAML file. Empty takes
    bdd100k19, and bdd100k_drivable for drivable areas."""
    task: Literal["segmentation", "drivable", "detection"] = "segmentation"
    """`segmentation`: images/10k with masks. `drivable`: images/100k with masks of drivable areas, and with boxes if
    their list is there. `detection`: images/100k with boxes."""
    split: str = "train"
    """Folder of the images: train, val, or test, whose frames have no labels."""

    def image_files(self) -> list[Path]:
        """Return the images of the split, in name order.

        Raises:
            DataError: The folder is not BDD100K, has no such split, or no image is left.
        """
        images = _IMAGES[self.task]
        check_root(self.folder, images, f"the folder of BDD100K, with {images}/ and labels/")
        check_split(self.folder / images, self.split)
        return self._of_chosen_drives(list_images(self.folder / images / self.split))

    def label_set(self) -> LabelSet:
        """Return the set that `labels` names, or the one of the task."""
        return load_label_set(self.labels or _SETS[self.task])

    def boxes_file(self) -> Path | None:
        """Return the list of boxes; None if the frames have masks only.

        Raises:
            DataError: The task is detection, and there is no list.
        """
        if self.task == "segmentation" or self.split == _UNLABELED_SPLIT:
            return None
        places = [self.folder / place.format(split=self.split) for place in _LISTS]
        found = next((place for place in places if place.is_file()), None)
        if found is None and self.task == "detection":
            raise DataError(
                f"{self.folder}: expected boxes in {places[0]} or {places[1]}, there is neither; unpack the labels "
                "(Detection 2020), or correct the recipe's split"
            )
        return found

    def open(self, mapping: LabelMapping) -> Bdd100kFolder:
        """Return the reader of the frames."""
        return Bdd100kFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return False: the files do not say which of the tasks is meant, and a source must name it."""
        return False


class Bdd100kFolder(LabeledFolder):
    """Reads a split of BDD100K."""

    masks = None

    def __init__(self, source: Bdd100kSource, mapping: LabelMapping) -> None:
        """List the frames and read all boxes.

        Raises:
            DataError: The folder is not BDD100K, has no such split, or the list of boxes cannot be read.
        """
        super().__init__(source, mapping)
        labeled = source.split != _UNLABELED_SPLIT
        masks = _MASKS.get(source.task)
        self._masks_folder = source.folder / masks / source.split if masks and labeled else None
        self._boxes_file = source.boxes_file()
        self._found = self._read_boxes(self._boxes_file) if self._boxes_file else None

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a frame; None where the task has none."""
        from training.data.image_files import read_class_ids

        if self._masks_folder is None:
            return None
        path = self._masks_folder / f"{name}.png"
        if not path.is_file():
            raise DataError(
                f"{name}: expected its mask at {path}, there is no such file; unpack the masks, or remove the image"
            )
        return read_class_ids(path)

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the objects of a frame; None if the list does not have them."""
        if self._found is None:
            return None
        if name in self._found.problems:
            raise DataError(self._found.problems[name])
        return self._found.known.get(name)

    def label_files(self, name: str) -> list[Path]:
        """Return the mask of a frame. The boxes of all frames lie in one file."""
        return [] if self._masks_folder is None else [self._masks_folder / f"{name}.png"]

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and masks, and the list of boxes."""
        if self._boxes_file is None:
            return super().fingerprint()
        boxes = hashlib.sha256(self._boxes_file.read_bytes()).hexdigest()
        return hashlib.sha256(f"{super().fingerprint()}{boxes}".encode()).hexdigest()

    def _read_boxes(self, path: Path) -> BddBoxes:
        from training.data.bdd_boxes import read_bdd_boxes

        found = read_bdd_boxes(path, ObjectNames(self.mapping.source))
        if not found.listed & set(self.names):
            raise DataError(
                f"{path}: expected objects of the frames in {self.folder}, it has those of other frames, or none; "
                "name the split that the list belongs to"
            )
        unknown = [name for name in self.names if name not in found.known and name not in found.problems]
        if unknown:
            print(f"{path}: {len(unknown)} of {len(self)} frames have no labels, {unknown[0]} first; they are unknown")
        return found
