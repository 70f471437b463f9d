"""Small bags of moving pictures, written by the package's own writer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ros_kd_perception.bags.reader import BagWriter, message_class

START_NS = 1_700_000_000_000_000_000


def write_small_bag(
    path: Path,
    cameras: Sequence[str] = ("front", "left"),
    frames: int = 8,
    rate_hz: float = 10.0,
    size: tuple[int, int] = (96, 160),
    compressed: bool = False,
) -> Path:
    """Write `frames` pictures of each camera, with staggered times, and a camera_info before the first one."""
    period_ns = round(1e9 / rate_hz)
    with BagWriter(path) as writer:
        for camera in cameras:
            writer.write(f"/{camera}/camera_info", START_NS, camera_info(camera, size))
        for frame in range(frames):
            for index, camera in enumerate(cameras):
                time_ns = START_NS + frame * period_ns + index * period_ns // len(cameras)
                picture = moving_picture(size, frame * len(cameras) + index)
                topic = f"/{camera}/image_raw/compressed" if compressed else f"/{camera}/image_raw"
                message = compressed_message if compressed else image_message
                writer.write(topic, time_ns, message(camera, time_ns, picture))
    return path


def write_timed_bag(
    path: Path,
    images: Sequence[tuple[str, float]],
    size: tuple[int, int] = (96, 160),
    *,
    recorder_s: float | None = None,
    camera_info_s: float | None = None,
) -> Path:
    """Write a picture of a camera at each given time, in seconds after `START_NS`. The time is also its stamp.

    Args:
        path: Path of the bag.
        images: Camera and time of each image.
        size: Height and width of the pictures.
        recorder_s: Time of a message that belongs to no camera, if there is one.
        camera_info_s: Time of the only CameraInfo of each camera, if there is one.
    """
    with BagWriter(path) as writer:
        if recorder_s is not None:
            note = message_class("std_msgs/msg/String")(data="the recorder has started")
            writer.write("/note", START_NS + round(recorder_s * 1e9), note)
        for camera in dict.fromkeys(camera for camera, _ in images) if camera_info_s is not None else ():
            time_ns = START_NS + round((camera_info_s or 0) * 1e9)
            writer.write(f"/{camera}/camera_info", time_ns, camera_info(camera, size))
        for number, (camera, second) in enumerate(images):
            time_ns = START_NS + round(second * 1e9)
            writer.write(f"/{camera}/image_raw", time_ns, image_message(camera, time_ns, moving_picture(size, number)))
    return path


def moving_picture(size: tuple[int, int], number: int) -> np.ndarray:
    """Return a smooth uint8 `[height, width, 3]` picture that differs for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def image_message(camera: str, stamp_ns: int, picture: np.ndarray) -> Any:
    height, width = picture.shape[:2]
    return message_class("sensor_msgs/msg/Image")(
        header=_header(camera, stamp_ns),
        height=height,
        width=width,
        encoding="bgr8",
        is_bigendian=0,
        step=width * 3,
        data=np.ascontiguousarray(picture).reshape(-1),
    )


def compressed_message(camera: str, stamp_ns: int, picture: np.ndarray) -> Any:
    data = cv2.imencode(".jpg", picture)[1].reshape(-1)
    return message_class("sensor_msgs/msg/CompressedImage")(
        header=_header(camera, stamp_ns), format="bgr8; jpeg compressed bgr8", data=data
    )


def camera_info(camera: str, size: tuple[int, int]) -> Any:
    region = message_class("sensor_msgs/msg/RegionOfInterest")(
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return message_class("sensor_msgs/msg/CameraInfo")(
        header=_header(camera, START_NS),
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.eye(3).ravel(),
        r=np.eye(3).ravel(),
        p=np.eye(3, 4).ravel(),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def _header(camera: str, stamp_ns: int) -> Any:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=f"{camera}_optical")
