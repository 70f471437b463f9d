"""GreedyTracker: the baseline: boxes get the id of the box that they overlap best, without any motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.model.boxes import iou_xyxy, match_by_iou
from ros_kd_perception.structures import Detections
from ros_kd_perception.tracking.byte_tracker import NO_TRACK, TrackingSettings


class GreedyTracker:
    """Follows boxes by their overlap with the last box of each track, best pair first.

    It has the settings of `ByteTracker` and the same rule for new tracks, so that a difference comes from motion and
    from the order of the pairs.

    Args:
        settings: How objects are followed.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self._settings = settings
        self._next_id = 1
        self._tracks: dict[int, tuple[NDArray[np.float32], int, int]] = {}  # box, class, stamp of the last sight

    def update(self, stamp_ns: int, found: Detections) -> NDArray[np.int64]:
        """Return the ids of the boxes of a frame, int64 `[n]`; `NO_TRACK` for low scores that continue no track."""
        limit_ns = self._settings.max_lost_s * 1e9
        self._tracks = {one: track for one, track in self._tracks.items() if 0 <= stamp_ns - track[2] <= limit_ns}
        ids = np.full(len(found), NO_TRACK, np.int64)
        if self._tracks:
            names = list(self._tracks)
            boxes = np.array([self._tracks[one][0] for one in names], np.float32)
            overlaps = iou_xyxy(found.boxes_xyxy, boxes)
            overlaps[found.labels[:, None] != np.array([self._tracks[one][1] for one in names])] = 0.0
            for row, column in match_by_iou(overlaps, self._settings.iou_min):
                ids[row] = names[column]
        for row in np.flatnonzero((ids == NO_TRACK) & (found.scores >= self._settings.high_score)).tolist():
            ids[row], self._next_id = self._next_id, self._next_id + 1
        for row in np.flatnonzero(ids != NO_TRACK).tolist():
            self._tracks[int(ids[row])] = found.boxes_xyxy[row], int(found.labels[row]), stamp_ns
        return ids
