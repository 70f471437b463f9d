"""TaughtFrame: what teachers said about a whole frame. It goes through the same crops and mirrors as the frame.

Changes of colour do not change it: the teachers saw the frame as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.box_geometry import HIDDEN_SHARE_MAX, area, covered_shares, mirrored, placed, whole_enough

CELL_PX = 4  # side of a cell; that of the student's class maps
SMALLEST_PROBABILITY = 1e-6  # of a class in a logarithm
_BROUGHT_SHARE_MIN = 0.25  # of a donor's box that is pasted; less of it is no object


@dataclass(frozen=True)
class FrameBoxes:
    """Boxes of a frame, in its pixels.

    Attributes:
        xyxy: float32 (n, 4).
        labels: int64 (n,), ids of the student's classes of boxes; -1 stands for every class.
        scores: float32 (n,), 0..1.
    """

    xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.xyxy.shape != (count, 4) or self.labels.shape != (count,) or self.scores.shape != (count,):
            raise ValueError(
                f"{count} labels need boxes ({count}, 4) and scores ({count},), got {self.xyxy.shape} and "
                f"{self.scores.shape}"
            )

    def __getitem__(self, chosen: NDArray[Any]) -> FrameBoxes:
        """Return the boxes at some indices, or where a mask is True."""
        return FrameBoxes(self.xyxy[chosen], self.labels[chosen], self.scores[chosen])

    def at(self, xyxy: NDArray[np.float32]) -> FrameBoxes:
        """Return the boxes at other places."""
        return replace(self, xyxy=xyxy)

    @classmethod
    def joined(cls, parts: Sequence[FrameBoxes]) -> FrameBoxes:
        """Return the boxes of all parts; at least one part is given."""
        return cls(
            np.concatenate([part.xyxy for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )


@dataclass(frozen=True)
class TaughtFrame:
    """What teachers say about a frame, in the classes of the student.

    Attributes:
        probabilities: float32 (ceil(h / 4), ceil(w / 4), C), of the student's classes of masks in cells of 4x4 pixels.
            They sum to the share of a cell about which the teachers say something: to 0 where they are unsure, or
            outside of the frame. None if no teacher teaches masks.
        objects: Boxes of which the teachers are sure.
        ignored: Regions that are neither objects nor background.
        known_pixels: bool (C,), whether any teacher knows a class of masks.
        known_boxes: bool (K,), whether any teacher knows a class of boxes. Empty if no teacher teaches boxes.
    """

    probabilities: NDArray[np.float32] | None
    objects: FrameBoxes
    ignored: FrameBoxes
    known_pixels: NDArray[np.bool_]
    known_boxes: NDArray[np.bool_]

    def __post_init__(self) -> None:
        cells = self.probabilities
        if cells is not None and (cells.ndim != 3 or cells.shape[2] != len(self.known_pixels)):
            raise ValueError(f"{len(self.known_pixels)} classes need probabilities (h, w, C), got {cells.shape}")

    def cut(self, window: tuple[int, int, int, int], height: int, width: int, visible_share_min: float) -> TaughtFrame:
        """Return a window of the frame, resized to height x width; see `training.data.augmentation.cut`.

        An object that keeps less than `visible_share_min` of its area becomes an ignored region: it is no longer whole,
        and no background either.
        """
        boxes, clipped = placed(self.objects.xyxy, window, height, width)
        objects = self.objects.at(clipped)
        ignored = self.ignored.at(placed(self.ignored.xyxy, window, height, width)[1])
        whole = whole_enough(boxes, clipped, visible_share_min)
        unsure = FrameBoxes.joined([ignored, objects[~whole]])
        return replace(
            self,
            probabilities=self._cut_cells(window, height // CELL_PX, width // CELL_PX),
            objects=objects[whole],
            ignored=unsure[area(unsure.xyxy) > 0],
        )

    def _cut_cells(self, window: tuple[int, int, int, int], rows: int, columns: int) -> NDArray[np.float32] | None:
        if self.probabilities is None:
            return None
        left, top, right, bottom = (edge / CELL_PX for edge in window)
        # Only the columns that the window needs, which saves half of the time.
        margin = int(np.ceil(max(1.0, (right - left) / columns)))
        first = max(0, int(np.floor(left)) - margin)
        cells = self.probabilities[:, first : int(np.ceil(right)) + margin]
        return resampled(resampled(cells, top, bottom, rows, axis=0), left - first, right - first, columns, axis=1)

    def flipped(self, width: int) -> TaughtFrame:
        """Return the frame with left and right swapped; `width` is a multiple of 4 pixels."""
        cells = self.probabilities
        return replace(
            self,
            probabilities=None if cells is None else cells[:, ::-1],
            objects=self.objects.at(mirrored(self.objects.xyxy, width)),
            ignored=self.ignored.at(mirrored(self.ignored.xyxy, width)),
        )

    def with_pasted(self, donor: TaughtFrame, pasted: NDArray[np.bool_], classes: Sequence[int]) -> TaughtFrame:
        """Return the frame with pixels of another one pasted in: there, what was said about the other one counts.

        Objects that are mostly hidden afterwards become ignored regions.

        Args:
            donor: The other frame, of the same size and teachers.
            pasted: bool (h, w), the pixels that come from it.
            classes: Classes of boxes that are pasted.
        """
        hidden = covered_shares(pasted, self.objects.xyxy) > HIDDEN_SHARE_MAX
        brought, doubtful = (
            boxes[covered_shares(pasted, boxes.xyxy) >= _BROUGHT_SHARE_MIN] for boxes in (donor.objects, donor.ignored)
        )
        cells = self.probabilities
        if cells is not None and donor.probabilities is not None:
            share = cell_shares(pasted)
            cells = cells * (1 - share) + donor.probabilities * share
        return replace(
            self,
            probabilities=cells,
            objects=FrameBoxes.joined([self.objects[~hidden], brought[np.isin(brought.labels, classes)]]),
            ignored=FrameBoxes.joined([self.ignored, self.objects[hidden], doubtful]),
        )

    def erased(self, top: int, left: int, bottom: int, right: int) -> TaughtFrame:
        """Return the frame with a rectangle of pixels about which nothing is said; boxes stay."""
        if self.probabilities is None:
            return self
        rows, columns = (side * CELL_PX for side in self.probabilities.shape[:2])
        erased = np.zeros((rows, columns), np.bool_)
        erased[top:bottom, left:right] = True
        return replace(self, probabilities=self.probabilities * (1 - cell_shares(erased)))


def cell_shares(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the share of each cell's pixels that are True, float32 (h / 4, w / 4, 1); sides are multiples of 4."""
    rows, columns = (side // CELL_PX for side in pixels.shape)
    blocks = pixels.reshape(rows, CELL_PX, columns, CELL_PX)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32)[:, :, None], np.float32)


def resampled(cells: NDArray[np.float32], start: float, end: float, count: int, axis: int) -> NDArray[np.float32]:
    """Return `count` cells of equal size between two edges along an axis. There is nothing outside of the given cells.

    The weights are those of a triangle as wide as two cells, of the given or of the wanted ones, whichever are larger:
    linear interpolation that also takes means where cells get larger. Cells that are only moved or mirrored keep their
    values.

    Args:
        cells: float32 (h, w, C).
        start: First edge, in given cells from the first one's edge; it may lie outside.
        end: Last edge.
        count: Number of cells to return.
        axis: 0 for rows, 1 for columns.
    """
    step = (end - start) / count
    reach = max(1.0, step)
    centres = start + (np.arange(count) + 0.5) * step - 0.5
    first = np.floor(centres - reach).astype(np.int64) + 1
    taps = [first + place for place in range(int(np.ceil(2 * reach)))]
    weights = [np.maximum(0.0, 1 - np.abs(tap - centres) / reach) for tap in taps]
    total = np.sum(weights, axis=0)
    result = np.zeros([count if place == axis else side for place, side in enumerate(cells.shape)], np.float32)
    for tap, weight in zip(taps, weights, strict=True):
        inside = (tap >= 0) & (tap < cells.shape[axis])
        shares = np.where(inside, weight / total, 0).astype(np.float32)
        if shares.any():
            taken = np.take(cells, np.where(inside, tap, 0), axis=axis)
            taken *= shares.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            result += taken
    return result
