"""Chooses the frames of a contact sheet, so that rare classes and the extremes are seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from training.inspection.facts import FrameFacts
from training.inspection.figures import Figures

FRAMES_MAX = 24


def choose_frames(frames: Sequence[FrameFacts], figures: Figures, most: int = FRAMES_MAX) -> dict[int, str]:
    """Return frames of a source to look at: their places in `frames`, with the reason for each.

    The extremes come first, then the frames with most of each class, the rarest first, then frames at equal distances,
    whose reason is empty.

    Args:
        frames: All frames of the source.
        figures: Their figures.
        most: Largest number of frames to return.
    """
    chosen: dict[int, str] = {}
    for reason, value in (*_extremes(frames), *_classes(figures)):
        values = np.array([value(frame) for frame in frames])
        best = int(values.argmax()) if len(values) else 0
        if len(values) and values[best] > 0:
            chosen[best] = f"{chosen[best]}, {reason}" if best in chosen else reason
        if len(chosen) == most:
            break
    evenly = np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int).tolist()
    for place in evenly:
        if len(chosen) < most:
            chosen.setdefault(place, "")
    return chosen


Value = Callable[[FrameFacts], float]


def _extremes(frames: Sequence[FrameFacts]) -> Iterator[tuple[str, Value]]:
    yield "darkest", lambda frame: 1.0 - frame.brightness + 1e-9
    yield "brightest", lambda frame: frame.brightness
    if any(frame.has_boxes for frame in frames):
        yield "most boxes", lambda frame: float(len(frame.labels))
        yield "largest box", lambda frame: float(frame.areas_px.max(initial=0)) / (frame.height * frame.width)
        yield "smallest box", lambda frame: 1 / max(1.0, frame.areas_px.min()) if len(frame.labels) else 0.0
    if any(frame.ignored for frame in frames):
        yield "most ignored regions", lambda frame: float(frame.ignored)
    if any(frame.has_mask for frame in frames):
        yield "most unlabelled", lambda frame: frame.unlabeled_share if frame.has_mask else 0.0


def _classes(figures: Figures) -> Iterator[tuple[str, Value]]:
    """Yield the number of pixels or boxes of each class, the rarest class first, masks and boxes in turn."""
    masks = [(one.share, _pixels_of(one.info.id), one.info.name) for one in figures.masks if one.pixels]
    boxes = [(one.total, _boxes_of(one.info.id), f"{one.info.name} boxes") for one in figures.boxes if one.total]
    ordered = [sorted(listed, key=lambda entry: entry[0]) for listed in (masks, boxes)]
    for place in range(max(map(len, ordered), default=0)):
        for listed in ordered:
            if place < len(listed):
                _, value, name = listed[place]
                yield f"most {name}", value


def _pixels_of(label: int) -> Value:
    return lambda frame: frame.pixels.get(label, 0) / (frame.height * frame.width)


def _boxes_of(label: int) -> Value:
    return lambda frame: float((frame.labels == label).sum())
