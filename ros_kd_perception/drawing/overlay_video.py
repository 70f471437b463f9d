"""Write a video of a drive: the newest overlay of every camera, at the recorded speed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from ros_kd_perception.drawing.clocked_video import ClockedVideo
from ros_kd_perception.drawing.mosaic import Mosaic, left_to_right, shrink
from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.letterbox import resized_class_map
from ros_kd_perception.structures import Frame, Int32Array, Perception


class OverlayVideo:
    """Arranges the overlays of all cameras and writes one video frame for each tick of the recording's clock.

    The same frames and perceptions give the same bytes. Long gaps are skipped as in the player.

    Attributes:
        jumps: Gaps of the recording that the video skips.
    """

    def __init__(
        self, path: str | Path, cameras: Collection[str], frames_per_second: float, *, overwrite: bool = False
    ) -> None:
        """Start a video.

        Args:
            path: File with the suffix .mp4.
            cameras: Names of the cameras.
            frames_per_second: Rate of the fastest camera; rounded to 1..60.
            overwrite: Whether to replace an existing file when the new one is complete.

        Raises:
            VideoError: The file cannot be written.
        """
        self._mosaic = Mosaic(left_to_right(cameras))
        self._video = ClockedVideo(path, self._mosaic.canvas_bgr, frames_per_second, overwrite=overwrite)
        self.jumps = self._video.jumps

    def add(
        self,
        log_time_ns: int,
        frame: Frame,
        perception: Perception,
        contract: ModelContract,
        boundary: Int32Array | None = None,
    ) -> None:
        """Show a frame with its perception, from the frame's time on.

        Args:
            log_time_ns: Time of recording, nanoseconds.
            frame: Frame from one of the cameras.
            perception: The result for this frame.
            contract: Names and colours of the classes.
            boundary: Free-space boundary in the frame, int32 `[width]`, or None.
        """
        position_ns = self._video.advance(log_time_ns)
        # Draw at the size of the tile: shrunk lines and letters cannot be read.
        size = self._mosaic.tiles[frame.camera].fit(*frame.image_bgr.shape[:2])
        if boundary is not None:
            boundary = _resized_boundary(boundary, frame.image_bgr.shape[0], *size)
        resized = resized_perception(perception, frame.image_bgr.shape[:2], size)
        picture_bgr = draw_overlay(shrink(frame.image_bgr, *size), resized, contract, boundary)
        self._mosaic.put(frame.camera, picture_bgr, f"{frame.camera}  {position_ns / 1e9:.1f} s")

    def complete(self) -> None:
        """Write the rest of the video, still under its temporary name, see `ClockedVideo.complete`."""
        self._video.complete()

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._video.__exit__(kind, error, trace)


def _resized_boundary(boundary: Int32Array, source_height: int, height: int, width: int) -> Int32Array:
    columns = ((np.arange(width) + 0.5) * len(boundary) / width).astype(np.intp)
    # Scale the first free row, which is one below the boundary. A boundary of -1 stays -1.
    return np.asarray((boundary[columns] + 1) * height // source_height - 1, np.int32)


def resized_perception(perception: Perception, source: tuple[int, int], size: tuple[int, int]) -> Perception:
    """Return a perception of a frame, `source` (height, width) pixels large, for its picture in another size."""
    class_map, found = perception.class_map, perception.detections
    if class_map is not None:
        class_map = resized_class_map(class_map, *size)
    if found is not None:
        scale_xyxy = np.array([size[1] / source[1], size[0] / source[0]] * 2, np.float32)
        found = replace(found, boxes_xyxy=found.boxes_xyxy * scale_xyxy)
    return replace(perception, class_map=class_map, detections=found)
