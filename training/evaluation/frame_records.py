"""Counts of each labelled frame that a model has perceived, so that the figures of any choice of the frames follow.

Figures of a whole set cannot say how sure they are. With the counts of each frame, frames can be drawn again and again
without running a network again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FrameRecords:
    """Counts of each frame. A task that the model does not do has no classes.

    Sizes of boxes are those of `training.evaluation.box_matching.BOX_SIZES`, in that order.

    Attributes:
        names: str (frames,), names of the frames.
        mask_classes: str (c,), names of the classes of the class map.
        box_classes: str (k,), names of the classes of boxes.
        confusion: int32 (frames, c, c + 1), pixels by true and perceived class; the last column is outside the classes.
        outlines: int32 (frames, c, 2), pixels along outlines in both masks and in either, see `boundary_counts`.
        labeled: bool (frames, c), whether the source of the frame labels the class.
        doubt: int32 (frames, 2, DOUBT_BINS), wrong and right pixels by the uncertainty of their block.
        true_boxes: int32 (frames, k), number of true boxes.
        true_boxes_by_size: int32 (sizes, frames, k), those of a size.
        frame: int32 (d,), frame of each detection, in ascending order.
        label: int32 (d,), its class.
        score: float64 (d,), its score.
        hits: bool (thresholds, d), whether it is right at each of IOU_THRESHOLDS.
        ignored: bool (thresholds, d), whether it counts neither as right nor as wrong.
        hits_by_size: bool (sizes, thresholds, d), like `hits` among true boxes of a size.
        ignored_by_size: bool (sizes, thresholds, d), like `ignored` among true boxes of a size.
        seen: uint8 (n,), every fourth pixel of the class maps of all frames.
    """

    names: NDArray[np.str_]
    mask_classes: NDArray[np.str_]
    box_classes: NDArray[np.str_]
    confusion: NDArray[np.int32]
    outlines: NDArray[np.int32]
    labeled: NDArray[np.bool_]
    doubt: NDArray[np.int32]
    true_boxes: NDArray[np.int32]
    true_boxes_by_size: NDArray[np.int32]
    frame: NDArray[np.int32]
    label: NDArray[np.int32]
    score: NDArray[np.float64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    hits_by_size: NDArray[np.bool_]
    ignored_by_size: NDArray[np.bool_]
    seen: NDArray[np.uint8]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.confusion)

    def agreement(self, other: FrameRecords) -> float | None:
        """Return the share of the pixels that both perceive as the same class; None if they cannot be compared."""
        alike = np.array_equal(self.mask_classes, other.mask_classes) and self.seen.size == other.seen.size
        return float(np.mean(self.seen == other.seen)) if alike and self.seen.size else None

    def to_bytes(self) -> bytes:
        """Return the content of a file to keep."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> FrameRecords:
        """Read a kept file."""
        with np.load(path, allow_pickle=False) as kept:
            return cls(**{field.name: kept[field.name] for field in fields(cls)})
