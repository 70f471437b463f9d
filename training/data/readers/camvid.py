"""CamVid frames: masks as they come, boxes from connected regions of the masks.

CamVid has no boxes and no instances. A connected region of "car" pixels is taken for one car. Cars that overlap in the
picture become one box and a car behind a pole becomes two, so these boxes are approximate: give them a `box_weight`
below 1, and do not quote detection metrics on them without saying so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.config.licence import Licence
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import LabeledSource
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.labels import SourceBoxes


class CamVidSource(LabeledSource):
    """A split of CamVid: images/, and masks/ with its eleven ids and 11 for void. Boxes are regions of the masks."""

    usual_licence = Licence(of="CamVid", terms="research use only", use="research")
    exact_boxes = False

    kind: Literal["camvid"] = "camvid"
    """CamVid, or another folder of images and masks without boxes."""
    labels: str = "camvid11"
    """Label set of the masks: the name of one in training/label_sets/, or the path of a YAML file."""

    def open(self, mapping: LabelMapping) -> CamVidFolder:
        """Return the reader of the frames."""
        return CamVidFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds masks."""
        return (folder / "masks").is_dir()


class CamVidFolder(LabeledFolder):
    """Reads a split of CamVid."""

    def __init__(self, source: CamVidSource, mapping: LabelMapping) -> None:
        """List the frames and their masks.

        Raises:
            DataError: A folder or a mask is missing.
        """
        super().__init__(source, mapping)
        # To find a frame's regions takes a third of the time of making a sample; `check` fills this for all of them.
        self._boxes: dict[str, SourceBoxes] = {}

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the boxes of the mask's regions."""
        from training.data.region_boxes import boxes_from_regions

        if name not in self._boxes and raw_mask is not None:
            self._boxes[name] = boxes_from_regions(raw_mask, self.mapping.source.region_ids)
        return self._boxes.get(name)
