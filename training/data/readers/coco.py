"""COCO: images and one JSON file with their annotations, of instances or of panoptic segments."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.data.coco_file import CocoFile, CocoImage, first_problems, read_coco
from training.data.data_set_root import check_folder
from training.data.image_listing import FRAMES_FILE
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import LabeledSource
from training.errors import DataError
from training.label_sets.from_file import label_set_of_names
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.labels import SourceBoxes

NAMES_BASE = "coco"
PLAIN_FILE = "annotations.json"
_PREFIXES = ("instances_", "panoptic_")
_FOLDERS = ("annotations", ".")


class CocoSource(LabeledSource):
    """Images with annotations in the JSON format of COCO: boxes, and masks on request."""

    kind: Literal["coco"] = "coco"
    """Annotations of COCO."""
    labels: str = ""
    """Label set: the name of one in training/label_sets/, or the path of a YAML file. Empty takes the categories of
    the annotations; names that are all names of COCO follow the tables of the set coco."""
    annotations: str = ""
    """JSON file in the folder, for example `annotations/instances_val2017.json`; empty takes annotations.json, or the
    one file of instances in annotations/."""
    image_folder: str = ""
    """Folder of the images in the folder; empty takes that of the year in the annotations' name, such as val2017, or
    images/."""
    polygons: bool = False
    """True makes masks of the polygons and run lengths of instances. Pixels outside of all objects stay unlabelled."""
    panoptic_masks: str = ""
    """Folder of the PNG files of a panoptic file; empty takes the folder beside it that has its name."""
    missing_images: Literal["refuse", "skip"] = "refuse"
    """What to do if images of the file are not in the folder: refuse to train, or train on the others."""

    def annotation_file(self) -> Path:
        """Return the file with the annotations.

        Raises:
            DataError: The recipe does not name it, and there is none or more than one.
        """
        if self.annotations:
            return self.folder / self.annotations
        if (self.folder / PLAIN_FILE).is_file():
            return self.folder / PLAIN_FILE
        check_folder(self.folder)
        found = sorted(path for folder in _FOLDERS for path in (self.folder / folder).glob(f"{_PREFIXES[0]}*.json"))
        if len(found) != 1:
            names = ", ".join(str(path.relative_to(self.folder)) for path in found[:5]) or "none"
            raise DataError(
                f"{self.folder}: expected {PLAIN_FILE} or one annotations/{_PREFIXES[0]}*.json, there is {names}; name "
                "the file in the recipe's `annotations`"
            )
        return found[0]

    def label_set(self) -> LabelSet:
        """Return the label set that the categories of the file make.

        Raises:
            DataError: The file cannot be read.
            RecipeError: The label set of the recipe lacks a category.
        """
        path, content = self.annotation_file(), self.content()
        base = load_label_set(self.labels or NAMES_BASE)
        masks = self.polygons or content.panoptic
        return label_set_of_names(
            str(path),
            base,
            detection=content.things,
            segmentation=content.categories if masks else {},
            strict=bool(self.labels),
        )

    def content(self) -> CocoFile:
        """Return what the file holds.

        Raises:
            DataError: The file is not of this form.
        """
        return read_coco(self.annotation_file(), self.polygons)

    def images_path(self) -> Path:
        """Return the folder of the images."""
        if self.image_folder:
            return self.folder / self.image_folder
        stem = self.annotation_file().stem
        named = [self.folder / stem.removeprefix(prefix) for prefix in _PREFIXES if stem.startswith(prefix)]
        return next((path for path in named if path.is_dir()), super().images_path())

    def image_files(self) -> list[Path]:
        """Return the images that the file lists, in name order.

        Raises:
            DataError: The file cannot be read, a drive is missing, or nothing is left.
        """
        folder = self.images_path()
        paths = sorted(folder / name for name in self.content().images)
        there = paths if self.missing_images == "refuse" else [path for path in paths if path.is_file()]
        if not there:
            raise DataError(f"{folder}: expected images of {self.annotation_file()}, there is none; correct the folder")
        return self._of_chosen_drives(there)

    def open(self, mapping: LabelMapping) -> CocoFolder:
        """Return the reader of the frames."""
        return CocoFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds annotations.json or files of instances.

        The annotations.json of frames from a bag lists the images only.
        """
        plain = (folder / PLAIN_FILE).is_file() and not (folder / FRAMES_FILE).is_file()
        return plain or any((folder / "annotations").glob(f"{_PREFIXES[0]}*.json"))


class CocoFolder(LabeledFolder):
    """Reads the images that an annotation file lists."""

    masks = None

    def __init__(self, source: CocoSource, mapping: LabelMapping) -> None:
        """List the frames and read the annotations.

        Raises:
            DataError: The file or a folder is missing, or the file is not of this form.
        """
        super().__init__(source, mapping)
        self._file = source.annotation_file()
        self._polygons = source.polygons
        content = source.content()
        folder = source.images_path()
        self._annotated: dict[str, CocoImage] = {
            name: content.images[path.relative_to(folder).as_posix()]
            for name, path in zip(self.names, self._images, strict=True)
        }
        self._boxes = {name: image.boxes for name, image in self._annotated.items()}
        self._has_masks = content.panoptic
        self._notes = content.notes
        left_out = len(content.images) - len(self._images)
        if left_out and source.missing_images == "skip":
            self._notes = [*self._notes, f"{folder}: {left_out} images that {self._file} lists are left out"]
        self._panoptic = self._file.parent / (source.panoptic_masks or self._file.stem)
        if source.panoptic_masks:
            self._panoptic = source.folder / source.panoptic_masks

    def check(self) -> None:
        """Read every frame once, and print the oddities of the file."""
        super().check()
        for note in self._notes:
            print(note)

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a panoptic PNG, or of the polygons if the recipe asks for it; else None."""
        image = self._annotated[name]
        if image.segments is not None:
            from training.data.coco_masks import read_panoptic_mask

            return read_panoptic_mask(self._panoptic / image.mask_name, image.segments, name)
        if not self._polygons:
            return None
        from training.data.coco_masks import draw_shapes
        from training.data.image_files import MAX_SIDE_PX

        if image.size is None or not all(0 < side <= MAX_SIDE_PX for side in image.size):
            raise DataError(
                f"{self._where(name)}: expected its height and width, up to {MAX_SIDE_PX} pixels, got {image.size}; "
                "add them, since masks are drawn at this size"
            )
        return draw_shapes(image.shapes, image.size, self._where(name))

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the objects of an image. One without annotations has none; without a panoptic mask, they are unknown.

        Raises:
            DataError: Annotations are wrong, or those of an image of another size.
        """
        image = self._annotated[name]
        if image.problems:
            raise DataError(f"{self._where(name)}: {first_problems(image)}")
        if image.size not in (None, tuple(size)):
            raise DataError(
                f"{self._where(name)}: expected an image of height and width {image.size}, as the file says, got "
                f"{tuple(size)}; the annotations are for another size, so use the images that they were made on"
            )
        return None if self._has_masks and image.segments is None else self._boxes[name]

    def label_files(self, name: str) -> list[Path]:
        """Return the panoptic PNG of a frame; the annotations lie in one file for all frames."""
        image = self._annotated[name]
        return [self._panoptic / image.mask_name] if image.segments is not None else []

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and masks, and the annotations."""
        annotations = hashlib.sha256()
        with self._file.open("rb") as file:
            while part := file.read(1 << 24):
                annotations.update(part)
        return hashlib.sha256(f"{super().fingerprint()}{annotations.hexdigest()}{self._polygons}".encode()).hexdigest()

    def _where(self, name: str) -> str:
        return f"{self._file}: {self._annotated[name].file_name}"
