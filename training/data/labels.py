"""The labels of a frame: as a source has them, and in the classes of the student."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.label_sets.mapping import BACKGROUND_BOX, IGNORED_BOX, LabelMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EVERY_CLASS = -1  # id of a region that teaches nothing about any class


@dataclass(frozen=True)
class SourceBoxes:
    """The objects of a frame with the ids of the source.

    Attributes:
        boxes_xyxy: float32 (n, 4) in pixels, right and bottom exclusive.
        ids: int64 (n,), ids of the source's classes of boxes; EVERY_CLASS only where `ignored`.
        ignored: bool (n,), True for a region that teaches nothing about its class, such as a crowd.
    """

    boxes_xyxy: NDArray[np.float32]
    ids: NDArray[np.int64]
    ignored: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Iterable[tuple[Any, int, bool]]) -> SourceBoxes:
        """Return the boxes of rows of (four corners, id, ignored)."""
        import numpy as np

        listed = list(rows)
        return cls(
            np.array([corners for corners, _, _ in listed], np.float32).reshape(-1, 4),
            np.array([label for _, label, _ in listed], np.int64),
            np.array([ignored for _, _, ignored in listed], np.bool_),
        )

    def clipped(self, height: int, width: int) -> SourceBoxes:
        """Return the boxes inside an image of this size; a box that leaves no area is dropped."""
        import numpy as np

        corners = np.clip(self.boxes_xyxy, 0, np.array([width, height] * 2, np.float32))
        kept = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        return SourceBoxes(corners[kept], self.ids[kept], self.ignored[kept])


@dataclass(frozen=True)
class FrameLabels:
    """The labels of a frame in the student's classes.

    Attributes:
        mask: uint8 (h, w), class ids; 255 is "not labelled".
        boxes_xyxy: float32 (n, 4) in pixels.
        labels: int64 (n,), class ids.
        ignored_xyxy: float32 (m, 4), regions that teach nothing.
        ignored_labels: int64 (m,), the class that each of them teaches nothing about, or EVERY_CLASS.
        labeled_pixels: bool (segmentation classes,), classes whose absence from a labelled pixel means something.
        labeled_boxes: bool (detection classes,), classes whose absence means that there is no such object.
        has_boxes: False if the objects in the frame are not known.
    """

    mask: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored_xyxy: NDArray[np.float32]
    ignored_labels: NDArray[np.int64]
    labeled_pixels: NDArray[np.bool_]
    labeled_boxes: NDArray[np.bool_]
    has_boxes: bool

    @classmethod
    def mapped(
        cls,
        mapping: LabelMapping,
        mask: NDArray[np.uint8],
        boxes: SourceBoxes | None,
        has_mask: bool = True,
        all_boxes: bool = True,
    ) -> FrameLabels:
        """Return the labels of a frame.

        Args:
            mapping: From the source's classes to the student's.
            mask: uint8 (h, w), already in the student's ids.
            boxes: Objects with the source's ids; None if they are not known.
            has_mask: Whether the frame has a mask at all.
            all_boxes: Whether every object of the labelled classes has a box, so that a missing box means something.
        """
        import numpy as np

        known = boxes if boxes is not None else SourceBoxes.of([])
        table = mapping.box_ids
        ids = np.array([table.get(int(label), IGNORED_BOX) for label in known.ids], np.int64)
        ignored = (known.ignored & (ids != BACKGROUND_BOX)) | (ids == IGNORED_BOX)
        counts = (ids >= 0) & ~known.ignored
        return cls(
            mask,
            known.boxes_xyxy[counts],
            ids[counts],
            known.boxes_xyxy[ignored],
            np.where(ids[ignored] >= 0, ids[ignored], EVERY_CLASS).astype(np.int64),
            np.array(mapping.covered_segmentation, np.bool_) & has_mask,
            np.array(mapping.covered_detection, np.bool_) & (boxes is not None and all_boxes),
            boxes is not None,
        )
