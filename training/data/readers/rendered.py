"""Rendered frames: exact masks, and exact boxes in boxes.json, as `render_drive --samples` writes them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.data.readers.frame_folder import LabeledFolder
from training.data.readers.source import LabeledSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.boxes_file import Boxes

BOXES_FILE = "boxes.json"


class RenderedSource(LabeledSource):
    """A folder of `render_drive --samples`: images/, masks/ with the ids of our classes, and boxes.json."""

    kind: Literal["rendered"] = "rendered"
    """Rendered frames."""

    def open(self) -> RenderedFolder:
        """Return the reader of the frames."""
        return RenderedFolder(self)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds boxes.json."""
        return (folder / BOXES_FILE).is_file()


class RenderedFolder(LabeledFolder):
    """Reads rendered frames."""

    def __init__(self, source: RenderedSource) -> None:
        """List the frames and read all boxes.

        Raises:
            DataError: A folder, mask or box is missing, or a box is not valid.
        """
        from training.data.boxes_file import read_boxes_file

        super().__init__(source)
        self._boxes = read_boxes_file(source.folder / BOXES_FILE, self.names)

    def read_boxes(self, name: str, mask: NDArray[np.uint8]) -> Boxes:
        """Return the boxes of boxes.json, which were checked on opening."""
        return self._boxes[name]

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and masks, and boxes.json."""
        boxes = hashlib.sha256((self.folder / BOXES_FILE).read_bytes()).hexdigest()
        return hashlib.sha256(f"{super().fingerprint()}{boxes}".encode()).hexdigest()
