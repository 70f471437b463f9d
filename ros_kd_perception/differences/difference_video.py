"""Writes a video of both sides: a row for each camera with the old side, the new side and what differs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import TracebackType

import numpy as np

from ros_kd_perception.differences.classes import ComparedClasses
from ros_kd_perception.differences.frames import FrameDifference, FramePair
from ros_kd_perception.differences.pictures import GAP_PX, ROW_HEIGHT, ROW_WIDTH, SmallFrame, draw_row
from ros_kd_perception.drawing.clocked_video import ClockedVideo
from ros_kd_perception.drawing.mosaic import BACKGROUND_BGR, left_to_right


class DifferenceVideo:
    """Draws frames of both sides into a video with the recording's speed.

    Attributes:
        is_cut: Whether frames after the end of the video were left out.
    """

    def __init__(
        self,
        path: Path,
        cameras: Collection[str],
        frames_per_second: float,
        classes: ComparedClasses,
        longest_s: float = 0,
    ) -> None:
        """Start a video.

        Args:
            path: File with the suffix .mp4.
            cameras: Names of the cameras.
            frames_per_second: Rate of the fastest camera.
            classes: Names and colours.
            longest_s: Length of the video in seconds. 0: no limit.

        Raises:
            VideoError: The file cannot be written.
        """
        rows = left_to_right(cameras)
        self._top_of = {camera: row * (ROW_HEIGHT + GAP_PX) for row, camera in enumerate(rows)}
        height = len(rows) * (ROW_HEIGHT + GAP_PX) - GAP_PX
        self._canvas_bgr = np.full((height, ROW_WIDTH, 3), BACKGROUND_BGR, np.uint8)
        self._video = ClockedVideo(path, self._canvas_bgr, frames_per_second)
        self._classes = classes
        self._longest_s = longest_s
        self.is_cut = False

    def add(self, pair: FramePair, found: FrameDifference, position_ns: int) -> None:
        """Show a frame from its time on.

        Args:
            pair: The frame.
            found: What differs.
            position_ns: Time since the first frame, without long gaps, nanoseconds.
        """
        if self._longest_s and position_ns > self._longest_s * 1e9:
            self.is_cut = True
            return
        self._video.advance(pair.log_time_ns)
        captions = (f"{pair.camera}  {position_ns / 1e9:.1f} s  OLD", "NEW", "what differs")
        top = self._top_of[pair.camera]
        self._canvas_bgr[top : top + ROW_HEIGHT] = draw_row(SmallFrame.of(pair, found), self._classes, captions)

    def __enter__(self) -> DifferenceVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._video.__exit__(kind, error, trace)
