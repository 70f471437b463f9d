"""One frame with its labels, as readers return it and augmentation changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
    """

    name: str
    image_bgr: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    has_boxes: bool = True
    box_weight: float = 1.0
    view: str = ""

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
