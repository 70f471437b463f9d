"""Keeps the worst moments of a comparison, with what is needed to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from ros_kd_perception.differences.classes import ComparedClasses
from ros_kd_perception.differences.figures import FrameRow
from ros_kd_perception.differences.frames import FrameDifference, FramePair
from ros_kd_perception.differences.limits import percent
from ros_kd_perception.differences.masks import MaskDifference
from ros_kd_perception.differences.pictures import SmallFrame
from ros_kd_perception.structures import Detections

APART_NS = 1_000_000_000
"""Two kept moments of a camera are at least this far apart: neighbouring frames look alike."""

_SHOWN_CHANGES, _SHOWN_BOXES = 3, 4


@dataclass(frozen=True)
class Moment:
    """A frame with a difference.

    Attributes:
        row: Its figures.
        small: What is needed to draw it.
        sentences: What differs, in words.
        lost, gained: Name, score and box of each box without a partner, for JSON.
    """

    row: FrameRow
    small: SmallFrame
    sentences: tuple[str, ...]
    lost: tuple[dict[str, Any], ...]
    gained: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, row: FrameRow, pair: FramePair, found: FrameDifference, classes: ComparedClasses) -> Moment:
        """Describe a frame."""
        sentences = []
        if found.masks is not None and classes.masks is not None:
            sentences.append(_mask_sentence(found.masks, classes.masks.names))
        lost: tuple[dict[str, Any], ...] = ()
        gained: tuple[dict[str, Any], ...] = ()
        if found.boxes is not None and classes.boxes is not None:
            lost, gained = (_listed(side, classes.boxes.names) for side in (found.boxes.lost, found.boxes.gained))
            sentences += [_box_sentence(word, boxes) for word, boxes in (("lost", lost), ("new", gained)) if boxes]
        return cls(row, SmallFrame.of(pair, found), tuple(sentences), lost, gained)

    @property
    def title(self) -> str:
        """Camera and time."""
        return f"{self.row.camera} at {self.row.position_ns / 1e9:.1f} s"


class WorstMoments:
    """Keeps the frames with the most changed pixels and those with the most lost and new boxes.

    Memory is bounded: of each ranking at most `count` small frames are kept.

    Args:
        count: Number of moments in the end.
        classes: Names of the classes.
    """

    def __init__(self, count: int, classes: ComparedClasses) -> None:
        self._count = count
        self._classes = classes
        self._by_pixels, self._by_boxes = _Ranking(count), _Ranking(count)

    def offer(self, row: FrameRow, pair: FramePair, found: FrameDifference) -> None:
        """Keep a frame if it is among the worst so far."""
        moment: Moment | None = None
        for ranking, value in ((self._by_pixels, row.changed_share or 0.0), (self._by_boxes, found.box_weight)):
            if ranking.takes(row, value):
                moment = moment or Moment.of(row, pair, found, self._classes)
                ranking.put(moment, value)

    def chosen(self) -> list[Moment]:
        """Return the worst moments: in turn the next one by pixels and the next one by boxes."""
        rankings = (self._by_pixels.moments(), self._by_boxes.moments())
        moments = (moment for moment in chain.from_iterable(zip_longest(*rankings)) if moment is not None)
        unique = {(moment.row.camera, moment.row.stamp_ns): moment for moment in moments}
        return list(unique.values())[: self._count]


class _Ranking:
    """The moments with the largest values, apart from each other."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[float, Moment]] = []

    def takes(self, row: FrameRow, value: float) -> bool:
        """Return whether `put` would keep a frame."""
        if value <= 0 or not self._count:
            return False
        near = self._near(row)
        if near is not None:
            return value > near[0]
        return len(self._kept) < self._count or value > self._kept[-1][0]

    def put(self, moment: Moment, value: float) -> None:
        """Keep a moment that `takes` accepts."""
        near = self._near(moment.row)
        self._kept = [kept for kept in self._kept if kept is not near]
        self._kept.append((value, moment))
        self._kept.sort(key=lambda kept: -kept[0])
        del self._kept[self._count :]

    def moments(self) -> list[Moment]:
        """Return the moments, largest value first."""
        return [moment for _, moment in self._kept]

    def _near(self, row: FrameRow) -> tuple[float, Moment] | None:
        for kept in self._kept:
            other = kept[1].row
            if other.camera == row.camera and abs(other.position_ns - row.position_ns) < APART_NS:
                return kept
        return None


def _mask_sentence(masks: MaskDifference, names: Sequence[str]) -> str:
    words = [*names, "unlabeled"]
    moved = masks.pixels.copy()
    np.fill_diagonal(moved, 0)
    order = np.argsort(-moved, axis=None, kind="stable")[:_SHOWN_CHANGES]
    parts = []
    for old, new in zip(*np.unravel_index(order, moved.shape), strict=True):
        if moved[old, new]:
            parts.append(f"{words[old]} to {words[new]} {percent(moved[old, new] / masks.compared)}")
    told = f": {', '.join(parts)}" if parts else ""
    return f"{percent(masks.changed_share)} of the pixels changed{told}"


def _listed(found: Detections, names: Sequence[str]) -> tuple[dict[str, Any], ...]:
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True)
    return tuple(
        {"class": names[label], "score": round(score, 4), "box_xyxy": [round(side, 1) for side in box]}
        for label, score, box in rows
    )


def _box_sentence(word: str, boxes: Sequence[dict[str, Any]]) -> str:
    shown = [f"{box['class']} {box['score']:.2f}" for box in boxes[:_SHOWN_BOXES]]
    more = f" and {len(boxes) - _SHOWN_BOXES} more" if len(boxes) > _SHOWN_BOXES else ""
    return f"{word}: {', '.join(shown)}{more}"
