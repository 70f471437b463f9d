"""A video of a drive: the newest overlay of every camera, at the speed at which it was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ros_kd_perception.mosaic import Mosaic
from ros_kd_perception.structures import UInt8Array
from ros_kd_perception.video import VideoWriter

MAX_FRAMES_PER_SECOND = 60
LONGEST_PAUSE_S = 1.0
"""A gap in the recording stands still for so long in the video, however long it was."""


class OverlayVideo:
    """Puts pictures side by side and writes one video frame for each tick of the recording's clock."""

    def __init__(
        self, path: str | Path, cameras: Sequence[str], frames_per_second: float, *, overwrite: bool = False
    ) -> None:
        """Start a video.

        Args:
            path: ends in .mp4.
            cameras: names, in the order of their places.
            frames_per_second: rate of the fastest camera; rounded, 1..`MAX_FRAMES_PER_SECOND`.
            overwrite: replace an existing file when the new one is complete.

        Raises:
            VideoError: the file cannot be written.
        """
        rate = min(MAX_FRAMES_PER_SECOND, max(1, round(frames_per_second)))
        self._mosaic = Mosaic(cameras)
        self._tick_ns = round(1e9 / rate)
        self._longest_pause_ns = round(LONGEST_PAUSE_S * 1e9)
        self._next_tick_ns: int | None = None
        self._stack = ExitStack()
        self._video = self._stack.enter_context(VideoWriter(path, rate, overwrite=overwrite))

    def add(self, camera: str, log_time_ns: int, picture_bgr: UInt8Array, caption: str) -> None:
        """Show a picture from its time on; times rise from call to call.

        Args:
            camera: one of the video's cameras.
            log_time_ns: when the frame was recorded.
            picture_bgr: uint8 `[height, width, 3]` of any size.
            caption: a line of text.
        """
        if self._next_tick_ns is None:
            self._next_tick_ns = log_time_ns
        self._next_tick_ns = max(self._next_tick_ns, log_time_ns - self._longest_pause_ns)
        # A picture belongs to the next tick, so what stands until then is what came before it.
        while self._next_tick_ns < log_time_ns:
            self._write()
        self._mosaic.put(camera, picture_bgr, caption)

    def _write(self) -> None:
        assert self._next_tick_ns is not None
        self._video.write(self._mosaic.canvas_bgr)
        self._next_tick_ns += self._tick_ns

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._next_tick_ns is not None:
            self._write()
        self._stack.__exit__(kind, error, trace)
