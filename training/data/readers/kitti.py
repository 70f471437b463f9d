"""KITTI: boxes of its object benchmark, masks and instances of its semantic one.

Layouts as in the readme.txt of both development kits (cvlibs.net/datasets/kitti): image_2/ beside label_2/ with a text
file for each image, or beside semantic/ and instance/ with a PNG for each, below training/; testing/ has images only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.config.licence import Licence
from training.data.label_rows import RowError, finite_numbers, read_rows
from training.data.labels import EVERY_CLASS, SourceBoxes
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import LabeledSource
from training.errors import DataError
from training.label_sets.label_set import LabelSet
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORED_TYPE = "dontcare"
_COLUMNS = (15, 16)  # the last one is the score in files of results
_BOX = slice(4, 8)
_PARTS = ("image_2", "label_2")
_PLAIN_PARTS = ("images", "labels")


class KittiSource(LabeledSource):
    """The object benchmark of KITTI, or a folder with images/ and labels/ in its format. Boxes only."""

    usual_licence = Licence(of="KITTI", terms="CC BY-NC-SA 3.0", use="research")

    kind: Literal["kitti"] = "kitti"
    """KITTI's object benchmark."""
    labels: str = "kitti"
    """Label set of the types of objects: the name of one in training/label_sets/, or the path of a YAML file."""
    split: Literal["training", "testing"] = "training"
    """Folder with the frames, if there is one; `testing` has no labels."""

    def images_path(self) -> Path:
        """Return image_2/, in the folder of the split or without one, or images/."""
        return next((parent / images for parent, (images, _) in self._layouts()), self.folder / self.split / _PARTS[0])

    def label_folder(self) -> Path | None:
        """Return the folder of the label files; None if the frames have no labels."""
        return next((parent / labels for parent, (_, labels) in self._layouts() if (parent / labels).is_dir()), None)

    def _layouts(self) -> list[tuple[Path, tuple[str, str]]]:
        """Return the layouts whose images are there."""
        candidates = [(self.folder / self.split, _PARTS), (self.folder, _PARTS), (self.folder, _PLAIN_PARTS)]
        return [(parent, parts) for parent, parts in candidates if (parent / parts[0]).is_dir()][:1]

    def open(self, mapping: LabelMapping) -> KittiFolder:
        """Return the reader of the frames."""
        return KittiFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds label_2/."""
        return any((folder / part / _PARTS[1]).is_dir() for part in (".", "training"))


class KittiFolder(LabeledFolder):
    """Reads images with a text file of boxes each."""

    masks = None

    def __init__(self, source: KittiSource, mapping: LabelMapping) -> None:
        """List the frames.

        Raises:
            DataError: There are no images, or the labels of the split training are missing.
        """
        super().__init__(source, mapping)
        self._labels_folder = source.label_folder()
        if self._labels_folder is None and source.split == "training":
            raise DataError(
                f"{source.folder}: expected label_2/ beside image_2/, or labels/ beside images/, there is neither; "
                "fetch the labels, or set split: testing for frames without labels"
            )
        self._types = {info.name.lower(): info.id for info in mapping.source.detection}

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the objects of a label file; None in the split without labels."""
        files = self.label_files(name)
        return SourceBoxes.of(read_rows(files[0], self._row)) if files else None

    def label_files(self, name: str) -> list[Path]:
        """Return the label file of a frame."""
        return [] if self._labels_folder is None else [self._labels_folder / f"{name}.txt"]

    def _row(self, words: list[str]) -> tuple[list[float], int, bool]:
        if len(words) not in _COLUMNS:
            raise RowError(
                f"expected {_COLUMNS[0]} columns (type, truncated, occluded, alpha, left, top, right, bottom and seven "
                f"of the object in space), got {len(words)}; correct it"
            )
        box = finite_numbers(words[1:])[_BOX.start - 1 : _BOX.stop - 1]
        if box[0] > box[2] or box[1] > box[3]:
            raise RowError(f"expected left, top, right and bottom of a box, got {' '.join(words[_BOX])}; correct it")
        kind = words[0].lower()
        if kind == IGNORED_TYPE:
            return box, EVERY_CLASS, True
        if kind not in self._types:
            known = ", ".join(info.name for info in self.mapping.source.detection)
            raise RowError(
                f"expected a type of the label set {self.mapping.source.name} ({known}) or DontCare, got "
                f"{words[0][:40]!r}; correct it, or name the label set of these files (labels)"
            )
        return box, self._types[kind], False


class KittiSemanticsSource(LabeledSource):
    """The semantic benchmark of KITTI: masks with the label ids of Cityscapes, and boxes around its instances."""

    usual_licence = Licence(of="KITTI", terms="CC BY-NC-SA 3.0", use="research")
    layout_tells_labels = True

    kind: Literal["kitti_semantics"] = "kitti_semantics"
    """KITTI's semantic benchmark."""
    labels: str = "cityscapes"
    """Label set of the masks: the name of one in training/label_sets/, or the path of a YAML file."""
    split: Literal["training", "testing"] = "training"
    """Folder with the frames; `testing` has no labels."""

    def images_path(self) -> Path:
        """Return the images of the split."""
        return self.split_folder() / _PARTS[0]

    def split_folder(self) -> Path:
        """Return the folder of the split; the folder itself if it holds the images."""
        return self.folder if (self.folder / _PARTS[0]).is_dir() else self.folder / self.split

    def open(self, mapping: LabelMapping) -> KittiSemanticsFolder:
        """Return the reader of the frames."""
        return KittiSemanticsFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds semantic/."""
        return any((folder / part / "semantic").is_dir() for part in (".", "training"))


class KittiSemanticsFolder(LabeledFolder):
    """Reads images with a mask and a PNG of instances each."""

    masks = None

    def __init__(self, source: KittiSemanticsSource, mapping: LabelMapping) -> None:
        """List the frames.

        Raises:
            DataError: There are no images.
        """
        super().__init__(source, mapping)
        self._parts = [source.split_folder() / part for part in ("semantic", "instance")]
        self._labeled = source.split == "training"

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a frame; None in the split without labels."""
        from training.data.image_files import read_class_ids

        return read_class_ids(self._parts[0] / f"{name}.png") if self._labeled else None

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return a box around each instance; None without instance/."""
        from training.data.image_files import read_class_ids
        from training.data.instance_boxes import boxes_of_instances

        if not self._labeled or not self._parts[1].is_dir():
            return None
        path = self._parts[1] / f"{name}.png"
        values = read_class_ids(path)
        if values.shape != size:
            raise DataError(f"{path}: expected height and width {size} like its image, got {values.shape}")
        return boxes_of_instances(values, _box_ids(self.mapping.source))

    def label_files(self, name: str) -> list[Path]:
        """Return the mask and the instances of a frame."""
        return [part / f"{name}.png" for part in self._parts if part.is_dir()] if self._labeled else []


def _box_ids(label_set: LabelSet) -> dict[int, int]:
    """Return the id of boxes of each id of masks that has boxes."""
    return {mask_id: box_id for box_id, mask_id in label_set.region_ids.items()}
