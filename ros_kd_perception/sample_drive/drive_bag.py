"""Write a sample drive as a bag: an image and a CameraInfo for each camera and tick, with equal stamps in a tick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.bags.reader import BagWriter, message_class
from ros_kd_perception.sample_drive.camera import CameraModel
from ros_kd_perception.sample_drive.drive import MAX_DURATION_S, SampleDrive, check_seed
from ros_kd_perception.sample_drive.render_pool import check_processes, render_pool

START_NS = 1_761_300_000_000_000_000
JPEG_QUALITY = 90


MAX_RATE_HZ = 1000


@dataclass(frozen=True)
class DrivePlan:
    """What to render: the street, the duration, the rate and the cameras."""

    seed: int
    weather: str
    duration_s: float
    rate_hz: float
    cameras: tuple[CameraModel, ...]

    def check(self) -> None:
        """Refuse a drive that cannot be rendered, before worker processes start.

        Raises:
            ValueError: A value is out of range. One sentence.
        """
        check_seed(self.seed)
        if not self.cameras:
            raise ValueError("expected at least one camera, got none")
        if not 0 < self.rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"expected a rate above 0 and up to {MAX_RATE_HZ} Hz, got {self.rate_hz:g} Hz")
        if not 0 < self.duration_s <= MAX_DURATION_S:
            raise ValueError(f"expected a duration above 0 and up to {MAX_DURATION_S} s, got {self.duration_s:g} s")

    @property
    def times_s(self) -> list[float]:
        """Return the time of each tick in seconds since the start; at least one."""
        return [index / self.rate_hz for index in range(max(round(self.duration_s * self.rate_hz), 1))]


def write_drive(
    path: Path, plan: DrivePlan, compressed: bool = False, processes: int = 2, overwrite: bool = False
) -> None:
    """Render a drive into a bag. The same plan gives the same bytes for any number of processes.

    Topics are `/<camera>/image_raw` (or `/<camera>/image_raw/compressed`, JPEG) and `/<camera>/camera_info`. Frame ids
    are `<camera>_optical_frame`. Stamps and log times count from 2025-10-24T10:00:00Z.

    Args:
        path: A `.mcap` file, or a folder that does not exist yet.
        plan: What to render.
        compressed: Write CompressedImage instead of Image (bgr8).
        processes: Number of worker processes, at least 1.
        overwrite: Replace an existing file when the new one is complete.

    Raises:
        BagError: The bag cannot be written.
        ValueError: The plan or the number of processes is out of range.
    """
    check_processes(processes)
    plan.check()
    total = len(plan.times_s) * len(plan.cameras)
    # Sensor noise does not compress: zstd would cost time and save little.
    bar = tqdm(total=total, unit="frame", desc="rendering drive", disable=None)
    with BagWriter(path, compress=False, overwrite=overwrite) as bag, bar as progress:
        for camera, stamp_ns, pixels in _rendered(plan, compressed, processes):
            header = _header(camera, stamp_ns)
            if compressed:
                kind = message_class("sensor_msgs/msg/CompressedImage")
                image = kind(header=header, format="bgr8; jpeg compressed bgr8", data=pixels)
                bag.write(f"/{camera.name}/image_raw/compressed", stamp_ns, image)
            else:
                bag.write(f"/{camera.name}/image_raw", stamp_ns, _image(header, camera, pixels))
            bag.write(f"/{camera.name}/camera_info", stamp_ns, camera_info(header, camera))
            progress.update()


def _header(camera: CameraModel, stamp_ns: int) -> Any:
    stamp = message_class("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=camera.frame_id)


def _image(header: Any, camera: CameraModel, pixels: NDArray[np.uint8]) -> Any:
    return message_class("sensor_msgs/msg/Image")(
        header=header, height=camera.height_px, width=camera.width_px, encoding="bgr8", is_bigendian=0,
        step=camera.width_px * 3, data=pixels,
    )  # fmt: skip


def camera_info(header: Any, camera: CameraModel) -> Any:
    """Build the CameraInfo of a camera: plumb_bob without distortion, R the identity, P = [K | 0]."""
    region = message_class("sensor_msgs/msg/RegionOfInterest")(
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return message_class("sensor_msgs/msg/CameraInfo")(
        header=header, height=camera.height_px, width=camera.width_px, distortion_model="plumb_bob",
        d=camera.distortion, k=camera.intrinsic_matrix.reshape(-1), r=np.eye(3).reshape(-1),
        p=camera.projection_matrix.reshape(-1), binning_x=0, binning_y=0, roi=region,
    )  # fmt: skip


def _rendered(
    plan: DrivePlan, compressed: bool, processes: int
) -> Iterator[tuple[CameraModel, int, NDArray[np.uint8]]]:
    """Yield camera, stamp and flat pixels (or JPEG bytes), uint8 (n,), tick by tick."""
    jobs: Sequence[tuple[float, CameraModel]] = [(time_s, camera) for time_s in plan.times_s for camera in plan.cameras]
    names = [(time_s, camera.name) for time_s, camera in jobs]
    with render_pool(processes, _start_worker, (plan, compressed)) as pool:
        for (time_s, camera), pixels in zip(jobs, pool.imap(_render, names), strict=True):
            yield camera, START_NS + round(time_s * 1e9), pixels


class _Worker:
    """What this process renders. The pool's initializer sets the plan once; the first job builds the drive."""

    plan: DrivePlan
    drive: SampleDrive | None = None
    compressed: bool


def _start_worker(plan: DrivePlan, compressed: bool) -> None:
    _Worker.plan = plan
    _Worker.compressed = compressed


def _render(job: tuple[float, str]) -> NDArray[np.uint8]:
    time_s, camera_name = job
    if _Worker.drive is None:  # built here, because an error of the initializer would start the worker again
        plan = _Worker.plan
        _Worker.drive = SampleDrive(plan.seed, plan.weather, plan.duration_s, plan.cameras)
    image_bgr = _Worker.drive.render(camera_name, time_s).image_bgr
    if not _Worker.compressed:
        return image_bgr.reshape(-1)
    done, jpeg = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError(f"cannot encode a frame of {image_bgr.shape} as JPEG")
    return np.asarray(jpeg, np.uint8).reshape(-1)
