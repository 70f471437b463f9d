"""Adds the differences of frames up, for each camera and each class. Keeps a few numbers of each frame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ros_kd_perception.differences.boxes import BOX_COLUMNS
from ros_kd_perception.differences.classes import ComparedClasses
from ros_kd_perception.differences.frames import FrameDifference
from ros_kd_perception.differences.masks import class_ious, share

OLD, NEW = "old", "new"
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class FrameRow:
    """The figures of one frame. Those of a task that is not compared are None.

    Attributes:
        camera: Name of the camera.
        stamp_ns: Header stamp, nanoseconds.
        position_ns: Time since the first frame, without long gaps, nanoseconds.
        compared_px, left_out_px: Numbers of pixels.
        changed_share: Share of the compared pixels whose class differs, 0..1.
        class_ious: IoU of each common class, float32 `[n]`, NaN for a class that neither side sees.
        old_boxes, new_boxes, matched_boxes, renamed_boxes: Numbers of boxes.
        mean_iou: Mean IoU of the pairs. None without pairs.
        score_change: Mean of the new score minus the old score of the pairs. None without pairs.
    """

    camera: str
    stamp_ns: int
    position_ns: int
    compared_px: int | None
    left_out_px: int | None
    changed_share: float | None
    class_ious: npt.NDArray[np.float32] | None
    old_boxes: int | None
    new_boxes: int | None
    matched_boxes: int | None
    renamed_boxes: int | None
    mean_iou: float | None
    score_change: float | None

    @classmethod
    def of(cls, camera: str, stamp_ns: int, position_ns: int, found: FrameDifference) -> FrameRow:
        """Take the figures of a difference."""
        masks, boxes = found.masks, found.boxes
        paired = boxes is not None and len(boxes.matched) > 0
        return cls(
            camera,
            stamp_ns,
            position_ns,
            None if masks is None else masks.compared,
            None if masks is None else masks.left_out,
            None if masks is None else masks.changed_share,
            None if masks is None else class_ious(masks.pixels).astype(np.float32),
            None if boxes is None else len(boxes.old),
            None if boxes is None else len(boxes.new),
            None if boxes is None else len(boxes.matched),
            None if boxes is None else boxes.renamed,
            float(boxes.ious.mean()) if boxes is not None and paired else None,
            float(boxes.score_changes.mean()) if boxes is not None and paired else None,
        )

    @property
    def lost_boxes(self) -> int:
        """Number of old boxes without a partner."""
        return (self.old_boxes or 0) - (self.matched_boxes or 0)

    @property
    def gained_boxes(self) -> int:
        """Number of new boxes without a partner."""
        return (self.new_boxes or 0) - (self.matched_boxes or 0)


class Totals:
    """Sums over frames, of one camera or of all.

    Attributes:
        frames: Number of compared frames.
        pixels: Sum of the pixel tables, int64 `[n + 1, n + 1]`.
        left_out_px: Number of pixels that were left out.
        boxes: Sum of the box tables, float64 `[m, len(BOX_COLUMNS)]`.
        renamed_boxes, left_out_boxes: Numbers of boxes.
        frames_with_lost: Number of frames in which an object is lost.
        frames_with_gained: Number of frames in which an object is new.
        one_sided: Number of frames that only one side has, by side.
    """

    def __init__(self, classes: ComparedClasses) -> None:
        mask_classes = 0 if classes.masks is None else len(classes.masks.names)
        box_classes = 0 if classes.boxes is None else len(classes.boxes.names)
        self.frames = self.left_out_px = self.renamed_boxes = self.left_out_boxes = 0
        self.frames_with_lost = self.frames_with_gained = 0
        self.pixels = np.zeros((mask_classes + 1, mask_classes + 1), np.int64)
        self.boxes = np.zeros((box_classes, len(BOX_COLUMNS)), np.float64)
        self.one_sided: Counter[str] = Counter()

    def add(self, found: FrameDifference) -> None:
        """Add one frame."""
        self.frames += 1
        if found.masks is not None:
            self.pixels += found.masks.pixels
            self.left_out_px += found.masks.left_out
        if found.boxes is not None:
            self.boxes += found.boxes.table(len(self.boxes))
            self.renamed_boxes += found.boxes.renamed
            self.left_out_boxes += found.boxes.left_out
            self.frames_with_lost += len(found.boxes.lost) > 0
            self.frames_with_gained += len(found.boxes.gained) > 0

    @property
    def compared_px(self) -> int:
        """Number of compared pixels."""
        return int(self.pixels.sum())

    @property
    def changed_share(self) -> float | None:
        """Share of the compared pixels whose class differs, 0..1."""
        return share(self.compared_px - int(np.trace(self.pixels)), self.compared_px)

    @property
    def left_out_share(self) -> float | None:
        """Share of the pixels with a class that only one side has, 0..1."""
        return share(self.left_out_px, self.left_out_px + self.compared_px)

    def box_sum(self, column: str) -> float:
        """Return the sum of a column of `BOX_COLUMNS` over the classes."""
        return float(self.boxes[:, BOX_COLUMNS.index(column)].sum())

    @property
    def lost_share(self) -> float | None:
        """Share of the old boxes without a partner, 0..1."""
        return share(self.box_sum("old") - self.box_sum("matched"), self.box_sum("old"))

    @property
    def gained_share(self) -> float | None:
        """Share of the new boxes without a partner, 0..1."""
        return share(self.box_sum("new") - self.box_sum("matched"), self.box_sum("new"))

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the pairs of boxes."""
        return share(self.box_sum("iou_sum"), self.box_sum("matched"))

    @property
    def score_change(self) -> float | None:
        """Mean of the new score minus the old score of the pairs."""
        return share(self.box_sum("score_change_sum"), self.box_sum("matched"))

    @property
    def score_distance(self) -> float | None:
        """Mean distance of the two scores of a pair."""
        return share(self.box_sum("score_distance_sum"), self.box_sum("matched"))

    @property
    def one_sided_share(self) -> float | None:
        """Share of the frames that only one side has, 0..1."""
        alone = self.one_sided.total()
        return share(alone, alone + self.frames)


@dataclass
class Figures:
    """All figures of a comparison.

    Attributes:
        classes: What the sides have in common.
        total: Sums over all frames.
        cameras: Sums by camera.
        rows: The figures of each frame, in the order of the frames.
        one_sided: Camera and stamp of the frames that only one side has, by side.
        dropped: Frames without results on both sides, by reason.
    """

    classes: ComparedClasses
    total: Totals = field(init=False)
    cameras: dict[str, Totals] = field(default_factory=dict)
    rows: list[FrameRow] = field(default_factory=list)
    one_sided: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: {OLD: [], NEW: []})
    dropped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.total = Totals(self.classes)

    def add(self, row: FrameRow, found: FrameDifference) -> None:
        """Add a frame of both sides."""
        self.rows.append(row)
        for totals in (self.total, self._of(row.camera)):
            totals.add(found)

    def add_one_sided(self, side: str, camera: str, stamp_ns: int) -> None:
        """Count a frame that only one side has, `OLD` or `NEW`."""
        self.one_sided[side].append((camera, stamp_ns))
        for totals in (self.total, self._of(camera)):
            totals.one_sided[side] += 1

    def rows_of(self, camera: str) -> list[FrameRow]:
        """Return the figures of the frames of a camera."""
        return [row for row in self.rows if row.camera == camera]

    def _of(self, camera: str) -> Totals:
        return self.cameras.setdefault(camera, Totals(self.classes))


def percentiles_of(rows: list[FrameRow]) -> dict[str, float] | None:
    """Return percentiles and the maximum of the changed share of frames. None without a frame with compared pixels."""
    shares = [row.changed_share for row in rows if row.changed_share is not None]
    if not shares:
        return None
    found = {f"p{p}": float(value) for p, value in zip(PERCENTILES, np.percentile(shares, PERCENTILES), strict=True)}
    return {**found, "max": max(shares)}
