"""The base of readers of labelled folders: masks in masks/, and settings about how far the labels count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from training.data.readers.frame_folder import FolderSettings, FrameFolder
from training.data.sample import Sample
from training.errors import DataError
from training.label_sets.label_set import LabelSet
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LabeledFolderSettings(FolderSettings, Protocol):
    """The settings that a folder with labels reads. Every `LabeledSource` has them."""

    @property
    def images(self) -> str:
        """Name of the folder with the images."""

    @property
    def box_weight(self) -> float:
        """How much the boxes count in the loss, 0..1."""

    @property
    def check_shares(self) -> bool:
        """Whether masks with unusual shares of classes are refused."""

    @property
    def layout_tells_labels(self) -> bool:
        """Whether only one data set has these folders and names of files."""

    @property
    def has_own_label_set(self) -> bool:
        """Whether a file of the user says what the labels mean."""


class LabeledFolder(FrameFolder):
    """Frames with labels. A reader whose masks lie elsewhere than in masks/ sets `masks` to None and reads them itself.

    Attributes:
        masks: Name of the folder with a mask for each frame, a PNG of the same name and size.
    """

    masks: str | None = "masks"

    def __init__(self, source: LabeledFolderSettings, mapping: LabelMapping) -> None:
        """List the frames and their masks.

        Raises:
            DataError: A folder is missing. A mask that is missing is found by `check`, with all other problems.
        """
        for part in (source.images, self.masks) if self.masks else ():
            if not (source.folder / part).is_dir():
                raise DataError(
                    f"{source.folder}: expected a folder with {source.images}/ and {self.masks}/, there is no {part}/; "
                    "render frames into it (python -m ros_kd_perception.render_drive --samples), fetch a data set "
                    "(docs/training.md), or correct the path of the folder, or its kind"
                )
        super().__init__(source, mapping)
        self.box_weight = source.box_weight
        self.check_shares = source.check_shares and not source.layout_tells_labels
        self._own_label_set = source.has_own_label_set
        self._mask_files = sorted((source.folder / self.masks).iterdir()) if self.masks else []
        self._masks = _masks_by_name(self._mask_files)

    def check_frame(self, path: Path) -> Sample:
        """Read one frame's image and labels; both must be stored as a viewer shows them."""
        from training.data.image_files import check_upright, exif_orientation, read_image

        sample = super().check_frame(path)
        check_upright(path, exif_orientation(path))
        for file in self.label_files(self._name_of[path]):
            if file.suffix.lower() == ".png":
                read_image(file)  # OpenCV refuses pixels that end early, which Pillow takes for zeros
        return sample

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a frame, (h, w), with the ids of the source; None if `masks` is None.

        Raises:
            DataError: There is no such file, or it does not hold class ids in one channel.
        """
        from training.data.image_files import read_class_ids

        if self.masks is None:
            return None
        if name not in self._masks:
            raise self._missing_mask(name)
        return read_class_ids(self._masks[name])

    def _missing_mask(self, name: str) -> DataError:
        folder = self.folder / str(self.masks)
        image = next(path for path in self._images if path.stem == name)
        close = [path.name for path in self._mask_files if path.stem.lower().startswith(name.lower())]
        return DataError(
            f"{image}: expected its mask at {folder / name}.png, a PNG with exactly the name of the image, there is "
            f"{' and '.join(close[:3]) or 'none'}; rename or export it so, or remove the image"
        )

    def label_files(self, name: str) -> list[Path]:
        """Return the mask. Boxes either follow from it or lie in one file for all frames."""
        return [self._masks[name]] if name in self._masks else []

    def fingerprint(self) -> str:
        """Return a SHA-256 over images, labels and mapping, and what a label set of the user says of numbers and names.

        The mapping goes by names, so it stays the same when the user corrects the number of a class. Sets that come
        with the package do not change.
        """
        own = super().fingerprint()
        if not self._own_label_set:
            return own
        return hashlib.sha256(f"{own}{_meaning_of(self.mapping.source)}".encode()).hexdigest()


def _meaning_of(label_set: LabelSet) -> str:
    """Return as JSON what numbers in masks and names in files of labels mean."""
    said = label_set.model_dump(mode="json", include={"void_ids", "aliases", "ignore_regions", "without_class"})
    said |= {task: {info.name: info.id for info in classes} for task, classes in label_set.by_task.items()}
    return json.dumps(said | {"regions": dict(label_set.regions)}, sort_keys=True, allow_nan=False)


def _masks_by_name(files: Sequence[Path]) -> dict[str, Path]:
    """Return the masks by their names: PNGs with a suffix in any case. A name with two files has none."""
    masks: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix.lower() == ".png":
            masks.setdefault(path.stem, []).append(path)
    return {name: paths[0] for name, paths in masks.items() if len(paths) == 1}
