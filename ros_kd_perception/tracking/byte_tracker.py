"""ByteTracker: gives the boxes of one camera ids that stay with their objects.

It follows ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022):
boxes of high scores are paired with tracks first, and what is left of the tracks then with boxes of low scores, because
an object that is half hidden has a low score, too. Only boxes of high scores begin tracks. Differences: times are those
of the stamps and not numbers of frames, pairs have the same class, and no box is left out, whether it has a track or
not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.structures import Detections, Int32Array, Int64Array
from ros_kd_perception.tracking.assignment import best_pairs
from ros_kd_perception.tracking.motion import BoxMotion

MAX_TRACKS = 1000
"""Tracks of a camera at the same time. A contract allows as many boxes in a frame."""
LOW_SCORE_IOU_MIN = 0.5
"""A box of a low score must overlap this well with a track: it may be something else."""
NO_TRACK = 0
"""Id of a box without a track."""

_Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class TrackingSettings:
    """How objects are followed. `tracking/parameters.py` describes each as a parameter.

    Attributes:
        high_score: Boxes with at least this score begin tracks, 0..1.
        iou_min: The least overlap of a box with the predicted box of its track, 0..1.
        max_lost_s: A track that was not seen for longer is forgotten, seconds.
    """

    high_score: float = 0.5
    iou_min: float = 0.2
    max_lost_s: float = 1.0


# States of a track. Plain numbers, because they are compared in arrays.
_NEW = 0  # seen once; forgotten if the next frame does not show it
_SEEN = 1  # seen in the frame before
_LOST = 2  # not seen lately


class ByteTracker:
    """Follows the objects of one camera. Use it from one thread.

    Ids are the numbers from `first_id` on. They rise with each new track and are never used again, also after a jump of
    the stamps.

    Attributes:
        next_id: The id of the next new track.

    Args:
        settings: How objects are followed.
        first_id: The first id, above 0.
    """

    def __init__(self, settings: TrackingSettings, first_id: int = 1) -> None:
        self.next_id = first_id
        self._settings = settings
        self._max_lost_ns = round(settings.max_lost_s * 1e9)
        self._stamp_ns: int | None = None
        self._ids: Int64Array
        self._labels: Int32Array
        self._states: npt.NDArray[np.int8]
        self._seen_ns: Int64Array
        self._forget_all()

    def __len__(self) -> int:
        return len(self._ids)

    def reset(self) -> None:
        """Forget all tracks. Later ids are new ones."""
        self._stamp_ns = None
        self._forget_all()

    def update(self, stamp_ns: int, found: Detections) -> Int64Array:
        """Return the ids of the boxes of a frame.

        The order of the boxes does not matter. Stamps that go back, or jump ahead by more than `max_lost_s`, forget all
        tracks.

        Args:
            stamp_ns: Stamp of the frame, nanoseconds.
            found: The boxes.

        Returns:
            int64 `[n]`, an id for each box, or `NO_TRACK` for boxes of low scores that continue no track.

        Raises:
            ValueError: A box or a score is NaN or infinite. The tracks stay as they were.
        """
        if not (np.isfinite(found.boxes_xyxy).all() and np.isfinite(found.scores).all()):
            raise ValueError("expected finite boxes and scores to track, got NaN or infinity; leave the frame out")
        order = np.lexsort((found.labels, *found.boxes_xyxy.T[::-1], -found.scores))  # best first, then from the left
        ids = np.zeros(len(found), np.int64)
        ids[order] = self._update_sorted(stamp_ns, found.rows(order))
        return ids

    def _update_sorted(self, stamp_ns: int, found: Detections) -> Int64Array:
        is_first = not self._move_to(stamp_ns)
        is_high = found.scores >= self._settings.high_score
        of_box = np.full(len(found), -1, np.intp)
        if len(found) and len(self):
            self._pair(found, is_high, of_box)
        self._take_in(stamp_ns, found, of_box)
        ids = np.full(len(found), NO_TRACK, np.int64)
        paired = of_box >= 0
        ids[paired] = self._ids[of_box[paired]]
        self._forget_old(stamp_ns)
        begun = np.flatnonzero(is_high & ~paired)
        if len(begun):
            ids[begun] = self._begin(stamp_ns, found.rows(begun), _SEEN if is_first else _NEW)
        return ids

    def _move_to(self, stamp_ns: int) -> bool:
        """Predict where the objects are at a time. Return False if nothing is known of the time before."""
        before, self._stamp_ns = self._stamp_ns, stamp_ns
        if before is None or not 0 <= stamp_ns - before <= self._max_lost_ns:
            self._forget_all()
            return False
        self._motion.predict((stamp_ns - before) / 1e9)
        return True

    def _pair(self, found: Detections, is_high: npt.NDArray[np.bool_], of_box: _Rows) -> None:
        """Pair boxes with tracks of their class. Write the row of its track for each box that has one."""
        overlaps = iou_xyxy(found.boxes_xyxy, self._motion.boxes_xyxy).astype(np.float64)
        overlaps[found.labels[:, None] != self._labels] = 0.0
        iou_min = self._settings.iou_min
        free = np.ones(len(self), np.bool_)

        def pair(boxes: _Rows, tracks: _Rows, least: float) -> None:
            if len(boxes) and len(tracks):
                rows, columns = best_pairs(overlaps[boxes[:, None], tracks] - least)
                of_box[boxes[rows]] = tracks[columns]
                free[tracks[columns]] = False

        is_new = self._states == _NEW
        pair(np.flatnonzero(is_high), np.flatnonzero(~is_new), iou_min)
        seen = np.flatnonzero(free & (self._states == _SEEN))
        pair(np.flatnonzero(~is_high), seen, max(iou_min, LOW_SCORE_IOU_MIN))
        pair(np.flatnonzero(is_high & (of_box < 0)), np.flatnonzero(is_new), iou_min)

    def _take_in(self, stamp_ns: int, found: Detections, of_box: _Rows) -> None:
        boxes = np.flatnonzero(of_box >= 0)
        tracks = of_box[boxes]
        if len(boxes):
            self._motion.correct(tracks, found.boxes_xyxy[boxes])
        lost = self._states == _SEEN
        lost[tracks] = False
        if lost.any():
            self._states[lost] = _LOST
            self._motion.hold_sizes(np.flatnonzero(lost))
        self._states[tracks] = _SEEN
        self._seen_ns[tracks] = stamp_ns

    def _forget_old(self, stamp_ns: int) -> None:
        # A track that is still new was seen in the frame before only: it is not in this one.
        old = (self._seen_ns < stamp_ns - self._max_lost_ns) | (self._states == _NEW)
        if old.any():
            self._keep(~old)

    def _begin(self, stamp_ns: int, found: Detections, state: int) -> Int64Array:
        """Begin a track for each box and return the ids. The limit on tracks costs lost ones first, then new ones."""
        excess = len(self) + len(found) - MAX_TRACKS
        if excess > 0:
            lost = np.flatnonzero(self._states == _LOST)
            kept = np.ones(len(self), np.bool_)
            kept[lost[np.argsort(self._seen_ns[lost], kind="stable")[:excess]]] = False
            self._keep(kept)
        count = min(len(found), MAX_TRACKS - len(self))
        ids = np.full(len(found), NO_TRACK, np.int64)
        ids[:count] = np.arange(self.next_id, self.next_id + count)
        if count:
            self.next_id += count
            self._motion.add(found.boxes_xyxy[:count])
            self._ids = np.concatenate((self._ids, ids[:count]))
            self._labels = np.concatenate((self._labels, found.labels[:count]))
            self._states = np.concatenate((self._states, np.full(count, state, np.int8)))
            self._seen_ns = np.concatenate((self._seen_ns, np.full(count, stamp_ns, np.int64)))
        return ids

    def _keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        self._motion.keep(chosen)
        self._ids, self._labels = self._ids[chosen], self._labels[chosen]
        self._states, self._seen_ns = self._states[chosen], self._seen_ns[chosen]

    def _forget_all(self) -> None:
        self._motion = BoxMotion()
        self._ids, self._labels = np.zeros(0, np.int64), np.zeros(0, np.int32)
        self._states, self._seen_ns = np.zeros(0, np.int8), np.zeros(0, np.int64)
