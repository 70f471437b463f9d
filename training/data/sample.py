"""One labelled frame, between the readers and the batch."""

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
        name: file stem, unique within its folder.
        image_bgr: uint8 (h, w, 3).
        mask: uint8 (h, w), segmentation class ids, 255 = not labelled.
        boxes_xyxy: float32 (n, 4), pixels; x grows right, y down, the far edges exclusive.
        labels: int64 (n,), detection class ids.
        has_boxes: False where nobody has said which objects are in the frame.
        box_weight: 0..1, how much the boxes count in the loss.
        view: name of this sight of the frame where it comes again, else empty.
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
