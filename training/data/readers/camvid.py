"""CamVid frames: masks as they come, boxes from connected regions of the masks.

CamVid has no boxes and no instances. A connected region of "car" pixels is taken for one car. Cars that overlap in the
picture become one box and a car behind a pole becomes two, so these boxes are approximate: give them a `box_weight`
below 1, and do not quote detection metrics on them without saying so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.data.readers.frame_folder import LabeledFolder
from training.data.readers.source import LabeledSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.boxes_file import Boxes

VOID_ID = 11


class CamVidSource(LabeledSource):
    """A split of CamVid: images/, and masks/ with our ids and 11 for void. Its boxes are regions of the masks."""

    exact_boxes = False

    kind: Literal["camvid"] = "camvid"
    """CamVid, or another folder of images and masks without boxes."""

    def open(self) -> CamVidFolder:
        """Return the reader of the frames."""
        return CamVidFolder(self)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds masks."""
        return (folder / "masks").is_dir()


class CamVidFolder(LabeledFolder):
    """Reads a split of CamVid."""

    void_ids = (VOID_ID,)

    def __init__(self, source: CamVidSource) -> None:
        """List the frames and their masks.

        Raises:
            DataError: A folder or a mask is missing.
        """
        super().__init__(source)
        # To find a frame's regions takes a third of the time of making a sample; `check` fills this for all of them.
        self._boxes: dict[str, Boxes] = {}

    def read_boxes(self, name: str, mask: NDArray[np.uint8]) -> Boxes:
        """Return the boxes of the mask's regions."""
        from training.data.region_boxes import boxes_from_regions

        if name not in self._boxes:
            self._boxes[name] = boxes_from_regions(mask)
        return self._boxes[name]
