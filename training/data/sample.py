"""One frame with its labels, as readers return it and augmentation changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.taught_frame import TaughtFrame

FULL_CONFIDENCE = 255


@dataclass(frozen=True)
class Sample:
    """A frame with its mask and boxes.

    Attributes:
        name: File stem, unique within its folder.
        image_bgr: uint8 (h, w, 3).
        mask: uint8 (h, w), segmentation class ids; 255 is "not labelled".
        boxes_xyxy: float32 (n, 4) in pixels. x grows to the right, y down; right and bottom are exclusive.
        labels: int64 (n,), detection class ids.
        has_boxes: False if the objects in the frame are not known.
        box_weight: How much the boxes count in the loss, 0..1.
        view: Name of this augmented view if it is shown again, else empty.
        ignored_xyxy: float32 (m, 4), regions that teach nothing about objects; None = there are none.
        ignored_labels: int64 (m,), the detection class that each region teaches nothing about; -1 = every class.
        labeled_pixels: bool (segmentation classes,), False for a class that the source does not label; None = all are
            labelled.
        labeled_boxes: bool (detection classes,), False for a class whose missing boxes mean nothing; None = all are
            labelled.
        confidence: uint8 (h, w), how much each pixel of the mask counts in the loss, 255 = fully; None = all do.
        taught: What teachers said about the frame, where that is kept (`distillation.look: frame`); else None.
    """

    name: str
    image_bgr: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    has_boxes: bool = True
    box_weight: float = 1.0
    view: str = ""
    ignored_xyxy: NDArray[np.float32] | None = None
    ignored_labels: NDArray[np.int64] | None = None
    labeled_pixels: NDArray[np.bool_] | None = None
    labeled_boxes: NDArray[np.bool_] | None = None
    confidence: NDArray[np.uint8] | None = None
    taught: TaughtFrame | None = None

    def __post_init__(self) -> None:
        if self.image_bgr.ndim != 3 or self.image_bgr.shape[2] != 3 or self.image_bgr.dtype != "uint8":
            raise ValueError(
                f"{self.name}: the image must be uint8 (h, w, 3), got {self.image_bgr.dtype} {self.image_bgr.shape}"
            )
        if self.mask.shape != self.image_bgr.shape[:2] or self.mask.dtype != "uint8":
            raise ValueError(
                f"{self.name}: the mask must be uint8 {self.image_bgr.shape[:2]} like the image, "
                f"got {self.mask.dtype} {self.mask.shape}"
            )
        if self.boxes_xyxy.shape != (len(self.labels), 4):
            raise ValueError(
                f"{self.name}: {len(self.labels)} labels need boxes of shape ({len(self.labels)}, 4), "
                f"got {self.boxes_xyxy.shape}"
            )
        ignored = self.ignored_xyxy, self.ignored_labels
        if (ignored[0] is None) != (ignored[1] is None) or (
            ignored[0] is not None and ignored[1] is not None and ignored[0].shape != (len(ignored[1]), 4)
        ):
            raise ValueError(f"{self.name}: ignored_xyxy (m, 4) and ignored_labels (m,) must fit each other")
        confidence = self.confidence
        if confidence is not None and (confidence.shape != self.mask.shape or confidence.dtype != "uint8"):
            raise ValueError(
                f"{self.name}: the confidence must be uint8 {self.mask.shape} like the mask, got "
                f"{confidence.dtype} {confidence.shape}"
            )
