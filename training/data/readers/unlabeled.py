"""Frames without labels in a folder of images: only a teacher can say what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from training.data.readers.frame_folder import FrameFolder
from training.data.readers.source import FolderSource
from training.label_sets.mapping import LabelMapping


class UnlabeledSource(FolderSource):
    """A folder with images/ and no labels, for runs with a teacher."""

    labeled = False

    kind: Literal["unlabeled"] = "unlabeled"
    """Images without labels."""

    def open(self, mapping: LabelMapping) -> UnlabeledFolder:
        """Return the reader of the frames."""
        return UnlabeledFolder(self, mapping)


class UnlabeledFolder(FrameFolder):
    """Reads images without labels: every pixel is void, and the objects are unknown."""

    def check(self) -> None:
        """Read every frame once, and print how many have an EXIF orientation: neither training nor vehicle apply it."""
        from training.data.image_files import UPRIGHT, exif_orientation

        super().check()
        turned = sum(exif_orientation(path) != UPRIGHT for path in self._images)
        if turned:
            print(
                f"{self.folder}: {turned} of {len(self)} images have an EXIF orientation; their pixels are taken as "
                "they are stored, as the vehicle takes those of its cameras"
            )

    def label_files(self, name: str) -> list[Path]:
        """Return no files."""
        return []
