"""The content of a report: a drive, and the moments of it that are shown as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ros_kd_perception.demo.drive_pictures import FrameKey
from ros_kd_perception.demo.drive_summary import DrivenFrame
from ros_kd_perception.demo.recorded_results import RecordedResult
from ros_kd_perception.drawing.mosaic import left_to_right
from ros_kd_perception.model.contract import ModelContract

MOMENTS = 4
"""Number of times along the drive at which the report shows the picture of every camera."""

LOW_SCORE = 0.5


@dataclass(frozen=True)
class Drive:
    """The content of a report.

    Attributes:
        title: Headline.
        subtitle: Sentence below the headline.
        facts: Name and text of each line of the last section.
        summary: Content of summary.json.
        frames: Every frame that was sent, in the order of sending.
        results: Recorded results by camera and stamp.
        contract: Names and colours of the classes.
    """

    title: str
    subtitle: str
    facts: Mapping[str, str]
    summary: Mapping[str, Any]
    frames: Sequence[DrivenFrame]
    results: Mapping[FrameKey, RecordedResult]
    contract: ModelContract

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras, in the order of their first frames."""
        return list(self.summary["cameras"])

    def seconds(self, frame: DrivenFrame) -> float:
        """Return when a frame was sent, in seconds after the first frame."""
        return (frame.sent_ns - self.frames[0].sent_ns) / 1e9


@dataclass(frozen=True)
class Picture:
    """A picture that the report needs: its frame and its caption."""

    key: FrameKey
    caption: str


def choose_moments(drive: Drive) -> list[Picture]:
    """Choose, for a few times along the drive, the nearest frame of each camera; row by row."""
    with_results = [frame for frame in drive.frames if frame.latency_ms is not None]
    if not with_results:
        return []
    length_s = drive.seconds(with_results[-1])
    pictures = []
    for index in range(MOMENTS):
        moment_s = length_s * (index + 0.5) / MOMENTS
        for camera in left_to_right(drive.cameras):
            own = [frame for frame in with_results if frame.camera == camera]
            if own:
                frame = min(own, key=lambda frame: abs(drive.seconds(frame) - moment_s))
                pictures.append(Picture(frame_key(frame), f"{camera}, {drive.seconds(frame):.1f} s"))
    return pictures


def choose_highlights(drive: Drive) -> list[Picture]:
    """Choose the slowest and the fastest frame, the one with most boxes, and the one with most low-score boxes."""
    seen = [(frame, drive.results[frame_key(frame)]) for frame in drive.frames if frame_key(frame) in drive.results]
    timed = [(frame, frame.latency_ms) for frame, _ in seen if frame.latency_ms is not None]
    if not timed:
        return []
    slowest, slowest_ms = max(timed, key=lambda item: item[1])
    fastest, fastest_ms = min(timed, key=lambda item: item[1])
    fullest, most = max(seen, key=lambda item: item[1].boxes)
    least_sure, unsure = max(seen, key=lambda item: _unsure_boxes(item[1]))

    def where(frame: DrivenFrame) -> str:
        return f"{frame.camera}, {drive.seconds(frame):.1f} s"

    chosen = [
        Picture(frame_key(slowest), f"Slowest: {slowest_ms:.0f} ms ({where(slowest)})"),
        Picture(frame_key(fastest), f"Fastest: {fastest_ms:.0f} ms ({where(fastest)})"),
    ]
    if count := _unsure_boxes(unsure):
        caption = f"Least sure: {count} box{'es' * (count > 1)} with a score under {LOW_SCORE} ({where(least_sure)})"
        chosen.insert(0, Picture(frame_key(least_sure), caption))
    if most.boxes:
        caption = f"Most boxes: {most.boxes} ({where(fullest)})"
        chosen.insert(0, Picture(frame_key(fullest), caption))
    return chosen


def frame_key(frame: DrivenFrame) -> FrameKey:
    """Return the key of a frame's results: camera and stamp."""
    return frame.camera, frame.stamp_ns


def _unsure_boxes(result: RecordedResult) -> int:
    found = result.detections
    return 0 if found is None else int(np.count_nonzero(found.scores < LOW_SCORE))
