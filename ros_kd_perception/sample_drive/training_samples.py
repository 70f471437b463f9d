"""Write rendered frames as a folder of training samples: images, masks and boxes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ros_kd_perception.sample_drive.camera import CameraModel, random_camera
from ros_kd_perception.sample_drive.drive import RenderedView, SampleDrive
from ros_kd_perception.sample_drive.render_pool import render_pool
from ros_kd_perception.sample_drive.street.weather import WEATHERS, Weather
from ros_kd_perception.system.output_paths import check_folder, make_folder

FRAMES_PER_SEED = 4
_WEATHER_SHARES = (0.5, 0.13, 0.1, 0.12, 0.15)
_DURATION_S = 6.0


@dataclass(frozen=True)
class SampleSetting:
    """One weather and one change of the mounting for all samples. Streets, times and all else follow from the seed.

    Samples of two settings with the same base seed show the same streets, so that only the setting differs.

    Attributes:
        weather: One of WEATHERS.
        changes: Fields of the `Weather` that the seed has drawn, with other values.
        pitch_rad: Added to the pitch of each camera, positive nose down.
        roll_rad: Added to the roll of each camera, positive right side down.
        height_m: Added to the height of each camera.
        focal_factor: Multiplies the focal length of each camera.
    """

    weather: str = "day"
    changes: Mapping[str, Any] = field(default_factory=dict)
    pitch_rad: float = 0.0
    roll_rad: float = 0.0
    height_m: float = 0.0
    focal_factor: float = 1.0

    def of_weather(self, drawn: Weather) -> Weather:
        """Return the weather of the samples."""
        return replace(drawn, **self.changes)

    def of_camera(self, drawn: CameraModel) -> CameraModel:
        """Return a camera of the samples."""
        return replace(
            drawn,
            pitch_rad=drawn.pitch_rad + self.pitch_rad,
            roll_rad=drawn.roll_rad + self.roll_rad,
            height_m=drawn.height_m + self.height_m,
            focal_px=drawn.focal_px * self.focal_factor,
        )


@dataclass(frozen=True)
class SampleRequest:
    """The samples of one street, numbered from `first` on."""

    folder: Path
    base_seed: int
    first: int
    count: int
    width_px: int
    height_px: int
    setting: SampleSetting | None = None


def write_samples(
    folder: Path,
    count: int,
    size_px: tuple[int, int],
    base_seed: int = 0,
    processes: int = 2,
    setting: SampleSetting | None = None,
) -> None:
    """Render `count` samples into a new folder.

    The folder has `images/NNNNNN.jpg`, `masks/NNNNNN.png` (class ids, 255 is void) and `boxes.json` ({stem:
    {boxes_xyxy, labels, seed, weather}}). Four samples in a row share a street; each has its own camera, time and
    street side. Sample N depends on the base seed and N only. The folder gets its name when it is complete.

    Args:
        folder: Path of the folder; it must not exist.
        count: Number of samples, at least 1.
        size_px: Width and height.
        base_seed: Different base seeds give different streets.
        processes: Number of worker processes, at least 1.
        setting: Weather and mounting of all samples; None to draw both for each street and sample.

    Raises:
        FileExistsError: The folder exists.
        ValueError: The count or the number of processes is below 1, or the folder would be created in the root.
    """
    if count < 1 or processes < 1:
        raise ValueError(f"expected at least one sample and one process, got {count} and {processes}")
    if folder.exists():
        raise FileExistsError(f"{folder} exists: name a new folder or remove it first")
    check_folder(folder)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    for name in ("images", "masks"):
        make_folder(part / name)
    requests = [
        SampleRequest(part, base_seed, first, min(FRAMES_PER_SEED, count - first), *size_px, setting)
        for first in range(0, count, FRAMES_PER_SEED)
    ]
    try:
        boxes = _run(requests, count, processes)
        (part / "boxes.json").write_text(json.dumps(boxes, sort_keys=True, allow_nan=False) + "\n")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _run(requests: list[SampleRequest], count: int, processes: int) -> dict[str, Any]:
    boxes: dict[str, Any] = {}
    progress = tqdm(total=count, unit="sample", desc="rendering samples", disable=None)
    with render_pool(processes) as pool, progress:
        for made in pool.imap_unordered(render_street, requests):
            boxes.update(made)
            progress.update(len(made))
    return boxes


def render_street(request: SampleRequest) -> dict[str, Any]:
    """Render and write the samples of one street; return their entries of boxes.json."""
    street = request.first // FRAMES_PER_SEED
    # Two base seeds never share a street: each has its own million of streets.
    seed = request.base_seed * 1_000_000 + street
    rng = np.random.default_rng([seed, 0xCA3E])
    weather = str(rng.choice(WEATHERS, p=_WEATHER_SHARES))
    cameras = [
        replace(random_camera(rng, request.width_px, request.height_px), name=f"sample_{index}")
        for index in range(FRAMES_PER_SEED)
    ]
    times_s = rng.uniform(0.0, _DURATION_S, FRAMES_PER_SEED)
    setting = request.setting
    if setting is not None:
        weather, cameras = setting.weather, [setting.of_camera(camera) for camera in cameras]
    drive = SampleDrive(seed, weather, _DURATION_S, cameras, None if setting is None else setting.of_weather)
    entries = {}
    for index in range(request.count):
        view = drive.render(cameras[index].name, float(times_s[index]))
        stem = f"{request.first + index:06d}"
        _write(request.folder, stem, view)
        entries[stem] = {
            "boxes_xyxy": view.boxes_xyxy.tolist(),
            "labels": view.labels.tolist(),
            "seed": seed,
            "weather": weather,
        }
    return entries


def _write(folder: Path, stem: str, view: RenderedView) -> None:
    image, mask = folder / "images" / f"{stem}.jpg", folder / "masks" / f"{stem}.png"
    done = cv2.imwrite(str(image), view.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not (done and cv2.imwrite(str(mask), view.class_map)):
        raise OSError(f"cannot write {image} and {mask}: is the disk full?")
