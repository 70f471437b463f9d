"""Write a canvas that changes now and then as a video with the recording's speed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from ros_kd_perception.drawing.video import VideoWriter
from ros_kd_perception.playback_timeline import PlaybackTimeline
from ros_kd_perception.structures import UInt8Array

MAX_FRAMES_PER_SECOND = 60


class ClockedVideo:
    """Writes one video frame for each tick of the recording's clock. Long gaps are skipped as in the player.

    Attributes:
        jumps: Gaps of the recording that the video skips.
    """

    def __init__(
        self, path: str | Path, canvas_bgr: UInt8Array, frames_per_second: float, *, overwrite: bool = False
    ) -> None:
        """Start a video.

        Args:
            path: File with the suffix .mp4.
            canvas_bgr: The picture, uint8 `[height, width, 3]`. The caller draws into it.
            frames_per_second: Rate of the fastest camera; rounded to 1..`MAX_FRAMES_PER_SECOND`.
            overwrite: Whether to replace an existing file when the new one is complete.

        Raises:
            VideoError: The file cannot be written.
        """
        rate = min(MAX_FRAMES_PER_SECOND, max(1, round(frames_per_second)))
        self._canvas_bgr = canvas_bgr
        self._tick_ns = round(1e9 / rate)
        self._timeline = PlaybackTimeline()
        self._next_tick_ns = 0
        self._is_empty = True
        self._is_complete = False
        self.jumps = self._timeline.jumps
        self._video = VideoWriter(path, rate, overwrite=overwrite)

    def advance(self, log_time_ns: int) -> int:
        """Show the canvas as it is until a frame's time. Draw the frame afterwards.

        Args:
            log_time_ns: Time of recording of the frame, nanoseconds.

        Returns:
            Time of the frame in the video, nanoseconds.
        """
        self._is_empty = False
        position_ns = self._timeline.place(log_time_ns)
        while self._next_tick_ns < position_ns:
            self._write()
        return position_ns

    def _write(self) -> None:
        self._video.write(self._canvas_bgr)
        self._next_tick_ns += self._tick_ns

    def complete(self) -> None:
        """Show the last canvas for one tick and write the rest of the video, still under its temporary name.

        Raises:
            VideoError: The disk is full.
        """
        if not self._is_empty and not self._is_complete:
            self._is_complete = True
            self._write()
        self._video.complete()

    def __enter__(self) -> ClockedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the video and give it its name. After an error, discard it."""
        if kind is not None:
            self._video.abort()
            return
        with self._video:
            self.complete()
