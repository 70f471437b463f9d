"""YOLO text files: one for each image, with a class and a box in shares of the image in each line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.data.label_rows import RowError, finite_numbers, read_rows
from training.data.labels import SourceBoxes
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import LabeledSource
from training.data.yolo_layout import NAMES_FILES, YoloLayout, label_file
from training.errors import DataError
from training.label_sets.from_file import label_set_of_names
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMES_BASE = "coco"  # the names that most YOLO data sets use
_TOLERANCE = 0.01  # rounding of the tools that export
_BOX_NUMBERS = 4
_POLYGON_NUMBERS_MIN = 6


class YoloSource(LabeledSource):
    """A folder with images/ and labels/ in the text format of YOLO. Boxes only; a polygon becomes the box around it."""

    kind: Literal["yolo"] = "yolo"
    """Text files of YOLO."""
    labels: str = ""
    """Label set: the name of one in training/label_sets/, or the path of a YAML file. Empty takes the names of the
    YAML file of the data set; names that are all names of COCO follow the tables of the set coco."""
    names_file: str = ""
    """File in the folder with the names of the classes; empty looks for data.yaml, data.yml, dataset.yaml and
    classes.txt."""
    split: str = ""
    """Which images: a key of the YAML file such as `train`, or a folder such as images/train; empty takes images/, or
    the key `train` if no image lies there."""
    missing_means: Literal["background", "unknown"] = "background"
    """What a missing text file means: `background`, as YOLO takes it, is an image without objects; `unknown` is an
    image whose objects are not known."""
    positives_only: bool = False
    """True if objects may lack a box: a missing box teaches nothing then."""

    def label_set(self) -> LabelSet:
        """Return the label set that the names of the data set make.

        A recipe that names a label set can be read where the data set is not: its folder is missed when frames are.

        Raises:
            DataError: There are no names, neither in the folder nor in the recipe.
            RecipeError: The label set of the recipe lacks a name of the data set.
        """
        if self.labels and not self.folder.exists():
            return load_label_set(self.labels)
        layout = YoloLayout(self.folder, self.names_file)
        if layout.names_path is None:
            if not self.labels:
                raise DataError(
                    f"{self.folder}: expected the names of the classes in {' or '.join(NAMES_FILES)}; add one, or name "
                    "a label set with these ids (labels)"
                )
            return load_label_set(self.labels)
        base = load_label_set(self.labels or NAMES_BASE)
        return label_set_of_names(
            str(layout.names_path), base, detection=layout.names, segmentation={}, strict=bool(self.labels)
        )

    def image_files(self) -> list[Path]:
        """Return the images of the split whose drive is taken, in name order."""
        return self._of_chosen_drives(YoloLayout(self.folder, self.names_file).images(self.split))

    def open(self, mapping: LabelMapping) -> YoloFolder:
        """Return the reader of the frames."""
        return YoloFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds a file with names, and labels/ or SPLIT/labels/."""
        has_labels = any(path.is_dir() for path in (folder / "labels", *folder.glob("*/labels")))
        return has_labels and any((folder / name).is_file() for name in NAMES_FILES)


class YoloFolder(LabeledFolder):
    """Reads images with a text file of boxes each."""

    masks = None

    def __init__(self, source: YoloSource, mapping: LabelMapping) -> None:
        """List the frames.

        Raises:
            DataError: There are no images.
        """
        super().__init__(source, mapping)
        self.all_boxes = not source.positives_only
        self._rules = source.missing_means, source.positives_only
        self._label_paths = {name: label_file(path) for name, path in zip(self.names, self._images, strict=True)}
        self._ids = {info.id for info in mapping.source.detection}

    def problems(self) -> Iterator[str]:
        """Yield the problems of all frames, and whether images and text files have other names."""
        yield from super().problems()
        missing = [path for path in self._label_paths.values() if not path.is_file()]
        alone = _without_image(set(self._label_paths.values())) if missing else []
        if len(missing) == len(self) or alone:
            yield (
                f"{self.folder}: {len(missing)} of {len(self)} images have no text file, such as {missing[0]}, and "
                f"{len(alone)} text files have no image{', such as ' * bool(alone)}{alone[0] if alone else ''}; give "
                "both the same names, or remove what has no counterpart"
            )
        elif missing:
            meaning = "it shows no objects" if self._rules[0] == "background" else "its objects are unknown"
            print(
                f"{self.folder}: {len(missing)} of {len(self)} images have no text file, {missing[0].name} first: "
                f"{meaning} (missing_means)"
            )

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the objects of a text file; without one none, or None if they are unknown then."""
        path = self._label_paths[name]
        if not path.exists():
            return SourceBoxes.of([]) if self._rules[0] == "background" else None
        rows = dict.fromkeys(read_rows(path, self._row))  # a repeated line counts once
        height, width = size
        return SourceBoxes.of(
            ((left * width, top * height, right * width, bottom * height), label, False)
            for left, top, right, bottom, label in rows
        )

    def label_files(self, name: str) -> list[Path]:
        """Return the text file of a frame, if it has one."""
        return [path for path in (self._label_paths[name],) if path.exists()]

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and text files, and what a missing box means."""
        return hashlib.sha256(f"{super().fingerprint()}{self._rules}".encode()).hexdigest()

    def _row(self, words: list[str]) -> tuple[float, float, float, float, int]:
        """Return left, top, right and bottom as shares of the image, and the class."""
        numbers = finite_numbers(words)
        shares = numbers[1:]
        polygon = len(shares) >= _POLYGON_NUMBERS_MIN and len(shares) % 2 == 0
        if len(shares) != _BOX_NUMBERS and not polygon:
            raise RowError(
                "expected a class and four numbers of a box, or a class and x, y of at least three corners, got "
                f"{len(words)} numbers; correct it"
            )
        if not all(-_TOLERANCE <= share <= 1 + _TOLERANCE for share in shares):
            raise RowError(
                f"expected shares of the image within 0..1, got {' '.join(words)[:80]}; divide pixels by its size"
            )
        if numbers[0] not in self._ids:
            raise RowError(
                f"expected a class of the label set {self.mapping.source.name}, one of {sorted(self._ids)}, got "
                f"{words[0]}; add its name, or correct it"
            )
        left, top, right, bottom = _corners_of_polygon(shares) if polygon else _corners_of_box(shares)
        if left >= right or top >= bottom:
            raise RowError(f"expected a box with a width and height, got {' '.join(words)[:80]}; remove it")
        return left, top, right, bottom, int(numbers[0])


def _corners_of_box(shares: list[float]) -> tuple[float, float, float, float]:
    x, y, width, height = shares
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _corners_of_polygon(shares: list[float]) -> tuple[float, float, float, float]:
    return min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2])


def _without_image(label_paths: set[Path]) -> list[Path]:
    """Return the text files beside those of the images that no image has, in name order."""
    folders = {path.parent for path in label_paths}
    found = {path for folder in folders if folder.is_dir() for path in folder.glob("*.txt")}
    return sorted(path for path in found - label_paths if path.name not in NAMES_FILES)
