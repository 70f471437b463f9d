"""Comparison: takes the frames of both sides one by one, and keeps figures and the worst moments. Start reading here.

`compare_replay` runs two models on the frames of a bag, `compare_bags` reads the results of two bags. Both hand their
frames to a Comparison. `output.py` writes what it found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ros_kd_perception.differences.classes import ComparedClasses
from ros_kd_perception.differences.difference_video import DifferenceVideo
from ros_kd_perception.differences.figures import Figures, FrameRow
from ros_kd_perception.differences.frames import FrameDifference, FramePair
from ros_kd_perception.differences.moments import WorstMoments
from ros_kd_perception.playback_timeline import PlaybackTimeline


@dataclass(frozen=True)
class Side:
    """One side of a comparison, for the report.

    Attributes:
        title: Its name, such as the name of a file.
        facts: What is known of it, by the name of the fact.
    """

    title: str
    facts: Mapping[str, str]


class Comparison:
    """Compares the frames of two sides. Memory grows by some numbers for each frame, not by its pixels.

    Attributes:
        classes: What the sides have in common.
        figures: All figures so far.
        worst: The worst moments so far.
        timeline: Places the frames in time, and skips long gaps.

    Args:
        classes: What the sides have in common.
        worst: Number of worst moments to keep.
        video: Takes the frames, too. None for no video.
    """

    def __init__(self, classes: ComparedClasses, worst: int, video: DifferenceVideo | None = None) -> None:
        self.figures = Figures(classes)
        self.worst = WorstMoments(worst, classes)
        self.timeline = PlaybackTimeline()
        self.classes = classes
        self._video = video

    def add(self, pair: FramePair) -> None:
        """Compare the results of a frame. Call it in the order of the recording."""
        pair = pair.of_one_size()
        found = FrameDifference.of(pair, self.classes)
        position_ns = self.timeline.place(pair.log_time_ns)
        row = FrameRow.of(pair.camera, pair.stamp_ns, position_ns, found)
        self.figures.add(row, found)
        self.worst.offer(row, pair, found)
        if self._video is not None:
            self._video.add(pair, found, position_ns)
