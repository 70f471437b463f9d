"""Rendered frames: exact masks, and exact boxes in boxes.json, as `render_drive --samples` writes them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.config.licence import Licence
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import BOXES_FILE, LABEL_SET_FILE, LabeledSource
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.labels import SourceBoxes


class RenderedSource(LabeledSource):
    """A folder of `render_drive --samples`: images/, masks/ with the renderer's ids, and boxes.json."""

    usual_licence = Licence(of="rendered frames", terms="Apache-2.0", use="any")

    kind: Literal["rendered"] = "rendered"
    """Rendered frames."""
    labels: str = "rendered"
    """Label set of masks and boxes: the name of one in training/label_sets/, or the path of a YAML file."""

    def open(self, mapping: LabelMapping) -> RenderedFolder:
        """Return the reader of the frames."""
        return RenderedFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds boxes.json, and no label set of its own."""
        return (folder / BOXES_FILE).is_file() and not (folder / LABEL_SET_FILE).is_file()


class RenderedFolder(LabeledFolder):
    """Reads rendered frames."""

    def __init__(self, source: RenderedSource, mapping: LabelMapping) -> None:
        """List the frames and read all boxes.

        Raises:
            DataError: A folder, mask or box is missing, or a box is not valid.
        """
        from training.data.boxes_file import read_boxes_file

        super().__init__(source, mapping)
        self._boxes = read_boxes_file(source.folder / BOXES_FILE, self.names, mapping.source)

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the boxes of boxes.json, which were checked on opening.

        Raises:
            DataError: A box reaches out of the image: it belongs to another one.
        """
        from training.data.boxes_file import check_inside

        return check_inside(self._boxes[name], size, f"{self.folder / BOXES_FILE}: frame {name}")

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and masks, and boxes.json."""
        boxes = hashlib.sha256((self.folder / BOXES_FILE).read_bytes()).hexdigest()
        return hashlib.sha256(f"{super().fingerprint()}{boxes}".encode()).hexdigest()
