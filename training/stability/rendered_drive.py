"""Rendered drives: frames in time with exact labels and exact motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ros_kd_perception.sample_drive.camera import default_cameras
from ros_kd_perception.sample_drive.drive import RenderedView, SampleDrive
from ros_kd_perception.sample_drive.flow import exact_flow
from training.stability.sequence import FrameTruth, SequenceFrame

SIZE_PX = (640, 360)
CAMERA = "front"


@dataclass(frozen=True)
class RenderedDrive:
    """The front camera of a rendered drive.

    Attributes:
        seed: Seed of the street.
        weather: One of the renderer's WEATHERS.
        duration_s: Length of the drive.
        rate_hz: Frames per second.
        with_flow: Whether the motion of the pixels is computed, which takes as long as the picture.
    """

    seed: int
    weather: str
    duration_s: float
    rate_hz: float
    with_flow: bool = True

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return f"drive {self.seed}"

    def __len__(self) -> int:
        return int(self.duration_s * self.rate_hz + 1e-6) + 1

    def __iter__(self) -> Iterator[SequenceFrame]:
        drive = SampleDrive(self.seed, self.weather, self.duration_s, default_cameras(*SIZE_PX))
        before: tuple[float, RenderedView] | None = None
        for number in range(len(self)):
            time_s = min(number / self.rate_hz, self.duration_s)
            view = drive.render(CAMERA, time_s, keeps_surface=self.with_flow)
            flow = None
            if before is not None and self.with_flow:
                flow = exact_flow(drive, CAMERA, (before[0], time_s), (before[1], view))
            truth = FrameTruth(view.class_map, view.boxes_xyxy, view.labels, view.instance_ids)
            yield SequenceFrame(f"{self.name}, {time_s:.2f} s", view.image_bgr, flow, truth)
            before = time_s, view
