"""Images with masks and boxes of one's own: the classes stand in a label set. Extracted frames have this form, too."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.data.image_listing import list_images
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import BOXES_FILE, LABEL_SET_FILE, LabeledSource
from training.errors import DataError
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.labels import SourceBoxes


class OwnFolderSource(LabeledSource):
    """A folder with images of one's own, and masks, boxes.json, or both."""

    kind: Literal["folder"] = "folder"
    """Images and masks of your own."""
    labels: str = ""
    """Label set of masks and boxes: the name of one in training/label_sets/, or the path of a YAML file. Empty reads
    label_set.yaml in the folder."""
    image_folder: str = "images"
    """Folder of the images, below `folder`."""
    mask_folder: str = "masks"
    """Folder of the masks, below `folder`: PNGs of class ids, grey with 1 to 16 bits or with a palette."""
    mask_suffix: str = ""
    """What the name of a mask has after that of its image: `_L` for a.png and a_L.png."""
    mask_colors: bool = False
    """True reads masks by the colours that the label set gives to its classes."""

    def image_files(self) -> list[Path]:
        """Return the images whose drive is taken, in name order; masks in the same folder are left out.

        Raises:
            DataError: A folder or a drive is missing, two images have one name, or nothing is left.
        """
        paths = list_images(self.folder / self.image_folder)
        if self.image_folder == self.mask_folder and self.mask_suffix:
            paths = [path for path in paths if not path.stem.endswith(self.mask_suffix)]
        return self._of_chosen_drives(paths)

    def open(self, mapping: LabelMapping) -> OwnFolder:
        """Return the reader of the frames."""
        return OwnFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder brings its label set."""
        return (folder / LABEL_SET_FILE).is_file()


class OwnFolder(LabeledFolder):
    """Reads images and masks of one's own."""

    masks = None

    def __init__(self, source: OwnFolderSource, mapping: LabelMapping) -> None:
        """List the frames, and read all boxes.

        Raises:
            DataError: A folder is missing, or boxes.json is not valid.
            RecipeError: Masks are read by their colours, which the label set does not give.
        """
        from training.data.boxes_file import read_boxes_file
        from training.data.mask_colors import MaskColors

        super().__init__(source, mapping)
        self._masks_folder = source.folder / source.mask_folder
        self._boxes_file = source.folder / BOXES_FILE
        self._has_masks, has_boxes = self._masks_folder.is_dir(), self._boxes_file.is_file()
        if not self._has_masks and not has_boxes:
            raise DataError(
                f"{source.folder}: expected masks in {source.mask_folder}/, or {BOXES_FILE}, there is neither; correct "
                "the path of the folder or mask_folder, or take images without labels with kind: unlabeled"
            )
        self._mask_suffix = source.mask_suffix
        self._masks = self._listed_masks() if self._has_masks else {}
        self._colors = MaskColors(mapping.source) if source.mask_colors else None
        self._boxes = read_boxes_file(self._boxes_file, self.names, mapping.source) if has_boxes else {}

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a frame; None without a folder of masks."""
        from training.data.image_files import read_class_ids

        if not self._has_masks:
            return None
        if name not in self._masks:
            raise DataError(self._missing(name))
        path = self._masks[name]
        return self._colors.read(path) if self._colors else read_class_ids(path)

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the boxes of boxes.json; None without the file."""
        return self._boxes.get(name)

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and masks, boxes.json, and the colours by which masks are read."""
        boxes = self._boxes_file.read_bytes() if self._boxes_file.is_file() else b""
        colors = b"" if self._colors is None else repr(self._colors.ids).encode()
        return hashlib.sha256(super().fingerprint().encode() + boxes + colors).hexdigest()

    def _listed_masks(self) -> dict[str, Path]:
        """Return the masks by the names of their images."""
        return {
            path.stem.removesuffix(self._mask_suffix): path
            for path in sorted(self._masks_folder.iterdir(), reverse=True)
            if path.suffix.lower() == ".png" and path.stem.endswith(self._mask_suffix)
        }

    def _missing(self, name: str) -> str:
        path = self._masks_folder / f"{name}{self._mask_suffix}.png"
        near = sorted(file.name for file in self._masks_folder.iterdir() if file.name.startswith(name))
        return (
            f"{name}: expected its mask at {path}, there is {' and '.join(near[:3]) or 'none'}; rename it so, "
            "set mask_suffix to what its name has after that of the image, or remove the image"
        )
